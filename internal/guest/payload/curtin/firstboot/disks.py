"""The host's disks: what ESXi knows of each, and which of Linux's disks it is.

Linux and ESXi call disks by different names, in another order. The curtin hook
has recorded what Linux knows of each; here a disk is only found if exactly one
of ESXi's has the same identity, because the disks of datastores are wiped.
"""

import re

from host import AgentError, parse_blocks, parse_fields, parse_table, quote

DEVICES = "/vmfs/devices/disks/"
SECTOR = 512                     # bytes, as partedUtil counts on every disk
SYSTEM = (1, 5, 6)               # ESP and boot banks, on the boot disk of every version


class State:
    """What the host has. boot is set by storage.plan."""

    def __init__(self, host, version):
        self.host, self.version, self.boot = host, version, None
        self.devices = parse_blocks(host.esxcli("storage", "core", "device", "list"))
        self.extents = read_extents(host)
        self.tables, self.serials = {}, {}
        if any(is_nvme(name) for name in self.devices):
            self.serials = nvme_serials(host)

    def table(self, device):
        """(label, sectors, {number: (first, last, type)}, whether the backup is out of place), as it
        was before the plan was carried out."""
        if device not in self.tables:
            self.tables[device] = self.read_table(device)
        return self.tables[device]

    def read_table(self, device):
        text = self.host.run("partedUtil", "getptbl", DEVICES + device)
        lines = [line for line in text.splitlines() if line and not line.startswith("Error")]
        if len(lines) < 2 or len(lines[1].split()) != 4:
            raise AgentError("cannot read the partition table of {}: {}".format(device, " ".join(text.split())))
        rows = [line.split() for line in lines[2:]]
        partitions = dict((int(r[0]), (int(r[1]), int(r[2]), r[3].upper())) for r in rows)
        return lines[0].strip(), int(lines[1].split()[3]), partitions, "Error" in text

    def volumes(self):
        """{volume: [(device, partition)]}, the head first."""
        found = {}
        for row in sorted(self.extents, key=lambda r: int(r["Extent Number"])):
            found.setdefault(row["Volume Name"], []).append((row["Device Name"], int(row["Partition"])))
        return found

    def volume_size(self, name):
        rows = parse_table(self.host.esxcli("storage", "filesystem", "list"))
        return sum(int(row["Size"]) for row in rows if row["Volume Name"] == name)


def read_extents(host):
    """The volumes' partitions. An answer that is not understood must not look like none: what
    holds no volume may be wiped."""
    text = host.esxcli("storage", "vmfs", "extent", "list")
    rows = parse_table(text)
    wanted = {"Volume Name", "Extent Number", "Device Name", "Partition"}
    if text.strip() and "--" not in text or not all(wanted <= set(row) and row["Extent Number"].isdigit()
                                                    and row["Partition"].isdigit() for row in rows):
        raise AgentError("cannot understand esxcli storage vmfs extent list: {}".format(quote(text)))
    return rows


def is_nvme(name):
    return name.startswith(("t10.NVMe", "eui."))


def nvme_serials(host):
    """{device: serial number}; the numbers in names of controllers mean nothing."""
    adapters, serials = {}, {}
    for path in parse_blocks(host.esxcli("storage", "core", "path", "list")).values():
        if is_nvme(path.get("Device", "")):
            adapters[path["Device"]] = path.get("Adapter", "")
    for device in sorted(adapters):
        try:
            text = host.esxcli("nvme", "device", "get", "-A", adapters[device])
        except AgentError as e:  # not every driver answers; most names have an EUI-64 in them
            host.journal.say("note: {} has no known serial number: {}".format(device, e))
            continue
        serials[device] = parse_fields(text).get("Serial Number", "")
    return serials


def find_device(disk, disks, state):
    """The one device that a disk of Linux is; disks are all of the hook's records."""
    found = candidates(disk, state)
    rivals = [d["name"] for d in disks if found and found[0] in candidates(d, state)]
    if len(found) != 1 or len(rivals) != 1:
        raise AgentError("cannot tell which disk of this host is {} (serial {!r}): {}; nothing was changed".format(
            disk["name"], disk.get("serial"), "none of ESXi's fits" if not found else "{} and {} fit each other".format(
                ", ".join(rivals), ", ".join(found))))
    return found[0]


def candidates(disk, state):
    """The devices with an identity of the disk: that in their names, else the controller's.
    All namespaces of an NVMe drive have its controller's serial number."""
    named = [name for name in state.devices if has_name(disk, name)]
    return named or [name for name in state.devices if has_serial(disk, name, state)]


def has_name(disk, name):
    """Whether a device's name holds an identity that Linux found in the disk."""
    eui, nguid, serial = (str(disk.get(key) or "").strip() for key in ("eui", "nguid", "serial"))
    if name.startswith("naa."):
        wwn = str((disk.get("udev") or {}).get("ID_WWN_WITH_EXTENSION") or "").lower()[2:]
        return len(name) > 4 and name.lower() in (str(disk.get("wwid") or "").lower(), "naa." + wwn)
    if name.startswith("eui."):
        return name[4:].lower() in [value.lower() for value in (eui, nguid) if value]
    if name.startswith("t10.NVMe"):
        return len(eui) == 16 and name.lower().endswith(reverse(eui))
    if name.startswith("t10.ATA_____") and serial:
        return name.endswith(tuple(escape(padded) for padded in (serial.ljust(20), serial.rjust(20))))
    return False


def has_serial(disk, name, state):
    serial = str(disk.get("serial") or "").strip()
    return is_nvme(name) and bool(serial) and state.serials.get(name, "").strip() == serial


def reverse(digits):
    """An EUI-64 as ESXi has it in names: its bytes in the other order."""
    return "".join(reversed(re.findall("..", digits.lower())))


def escape(text):
    """A text as in t10 names: blanks are _, other signs two hexadecimal digits."""
    return "".join("_" if c in " _" else c if re.match("[0-9A-Za-z]", c) else "{:02X}".format(ord(c)) for c in text)


def find_boot(disks, boot_disk, state):
    """The device that ESXi runs from: what ESXi says and what the hook saw must not contradict
    each other, and either alone must be beyond doubt."""
    records = [d for d in disks if d["name"] == boot_disk]
    fitting = candidates(records[0], state) if records else []
    marked = [name for name, device in state.devices.items() if device.get("Is Boot Device") == "true"]
    if len(marked) == 1 and (not fitting or marked[0] in fitting):
        found = marked[0]
    elif len(marked) == 1:
        raise AgentError("ESXi runs from {}, but the image was written to {}, which is {}".format(
            marked[0], boot_disk, ", ".join(fitting)))
    elif len(fitting) == 1:
        found = fitting[0]
    else:
        raise AgentError("{} disks are this host's boot disk for ESXi, and {} fit {}, which the image was written to".format(
            len(marked) or "no", len(fitting) or "none", boot_disk))
    check_boot(found, records[0] if records and not fitting else {}, state)
    return found


def check_boot(device, unproven, state):
    """unproven: Linux's record of the boot disk, if only its size can prove it."""
    _, sectors, partitions, _ = state.table(device)
    missing = [str(number) for number in SYSTEM if number not in partitions]
    if missing:
        raise AgentError("{} is not ESXi's boot disk: it has no partition {}".format(device, ", ".join(missing)))
    size = unproven.get("size") or sectors * SECTOR
    if size != sectors * SECTOR:
        raise AgentError("ESXi runs from {} with {} bytes, but the image was written to {} with {}".format(
            device, sectors * SECTOR, unproven["name"], size))
