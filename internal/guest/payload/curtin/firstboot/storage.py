"""Datastores: the plan for the partitions and volumes that MAAS's storage section asks for.

Linux and ESXi call disks by different names. The hook has recorded what Linux
knows of each; here a disk is only found if exactly one of ESXi's fits it
exactly, and is refused otherwise, because the disks of datastores are wiped.
"""

import re

from host import AgentError, Step, parse_blocks, parse_fields, parse_table

VMFS = "AA31E02A400F11DB9590000C2911D1B8"  # partition type
ALIGN = 2048                               # sectors
SECTOR = 512
SMALLEST = 1300 << 20                      # bytes; VMFS-6 needs as much
SLACK = 64 << 20                           # bytes; MAAS's rounding and reserves are less
RESERVED_6, RESERVED_7 = (1, 2, 4, 5, 6, 7, 8, 9), (1, 2, 4, 5, 6, 7)
DEVICES = "/vmfs/devices/disks/"


class State:
    def __init__(self, host, version):
        self.host, self.version = host, version
        self.devices = parse_blocks(host.esxcli("storage", "core", "device", "list"))
        self.extents = parse_table(host.esxcli("storage", "vmfs", "extent", "list"))
        self.serials = {}
        if any(name.startswith(("t10.NVMe", "eui.")) for name in self.devices):
            self.serials = nvme_serials(host)
        boot = [name for name, d in self.devices.items() if d.get("Is Boot Device") == "true"]
        if len(boot) != 1:
            raise AgentError("{} disks are this host's boot disk for ESXi".format(len(boot) or "no"))
        self.boot = boot[0]

    def table(self, device):
        """(label, sectors, {number: (first, last, type)}, whether the backup is out of place)"""
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


def nvme_serials(host):
    """{device: serial number}; the numbers in names of controllers mean nothing."""
    adapters = {}
    for path in parse_blocks(host.esxcli("storage", "core", "path", "list")).values():
        if path.get("Transport") == "pcie" or path.get("Device", "").startswith(("t10.NVMe", "eui.")):
            adapters[path.get("Device")] = path.get("Adapter")
    return dict((device, parse_fields(host.esxcli("nvme", "device", "get", "-A", adapter)).get("Serial Number", ""))
                for device, adapter in adapters.items())


# Which disk is which.

def find_device(disk, disks, state):
    """The one device that a disk of Linux is; disks are all of the hook's records."""
    found = [name for name in state.devices if fits(disk, name, state)]
    rivals = [d["name"] for d in disks if found and fits(d, found[0], state)]
    if len(found) != 1 or len(rivals) != 1:
        raise AgentError("cannot tell which disk of this host is {} (serial {!r}): {}; nothing was changed".format(
            disk["name"], disk.get("serial"), "none of ESXi's fits" if not found else "{} and {} fit each other".format(
                ", ".join(rivals), ", ".join(found))))
    return found[0]


def fits(disk, name, state):
    """Whether an identity that Linux found in the disk is the device's."""
    wwid = str(disk.get("wwid") or "").lower()
    eui, nguid, serial = (str(disk.get(key) or "") for key in ("eui", "nguid", "serial"))
    if name.startswith("naa."):
        udev = disk.get("udev") or {}
        wwn = str(udev.get("ID_WWN_WITH_EXTENSION") or "").lower()[2:]
        return len(name) > 4 and name.lower() in (wwid, "naa." + wwn)
    if name.startswith("eui."):
        return name[4:].lower() in [value.lower() for value in (eui, nguid) if value]
    if name.startswith("t10.NVMe"):
        if eui and name.lower().endswith("_" + reverse(eui)):
            return True
        return bool(serial) and (state.serials.get(name, "").strip() == serial.strip())
    if name.startswith("t10.ATA_____") and serial:
        return name.endswith(tuple(escape(padded) for padded in (serial.strip().ljust(20), serial.strip().rjust(20))))
    return False


def reverse(digits):
    """An EUI-64 as ESXi has it in names: its bytes in the other order."""
    return "".join(reversed(re.findall("..", digits.lower())))


def escape(text):
    """A text as in t10 names: blanks are _, other signs two hexadecimal digits."""
    return "".join("_" if c in " _" else c if re.match("[0-9A-Za-z]", c) else "{:02X}".format(ord(c)) for c in text)


# The plan.

def plan(section, disks, boot_disk, state, notes):
    entries = dict((e.get("id"), e) for e in section.get("config") or [] if isinstance(e, dict))
    stores = [e for e in entries.values() if e.get("type") == "vmfs6"]
    check_names([s.get("name") for s in stores])
    boot = [d for d in disks if d["name"] == boot_disk]
    if boot and any(fits(boot[0], name, state) for name in state.devices if name != state.boot):
        raise AgentError("ESXi runs from {}, but the image was written to {}".format(state.boot, boot_disk))
    if not stores:
        return plan_default(state, notes)
    layout = Layout(entries, disks, boot_disk, state)
    volumes = state.volumes()
    wishes = []
    for store in sorted(stores, key=lambda s: s["name"]):
        extents = layout.extents(store)
        there = volumes.get(store["name"])
        if there and there != extents:
            raise AgentError("datastore {} is there already, on {}".format(store["name"], there))
        if not there:
            wishes.append((store["name"], extents))
    return layout.plan([e for _, extents in wishes for e in extents]) + [
        step for name, extents in wishes for step in make_volume(name, extents)]


def check_names(names):
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= 42 or re.search(r"[/\\%]", name) or names.count(name) > 1:
            raise AgentError("datastore {!r}: not a name ESXi takes, or there twice".format(name))


class Layout:
    """MAAS's partitions for datastores, on ESXi's devices."""

    def __init__(self, entries, disks, boot_disk, state):
        self.entries, self.disks, self.boot_disk, self.state = entries, disks, boot_disk, state
        self.sizes = {}    # {(device, number): bytes}

    def extents(self, store):
        """(device, number) of a datastore's partitions, one on the boot disk first: MAAS sorts them by name."""
        found = []
        for partition in store.get("devices") or []:
            entry = self.entries.get(partition, {})
            if entry.get("type") != "partition" or not isinstance(entry.get("number"), int):
                raise AgentError("datastore {}: {} is no partition".format(store["name"], partition))
            key = self.device(entry.get("device")), entry["number"]
            if key in self.sizes:
                raise AgentError("datastore {}: {} belongs to another one too".format(store["name"], partition))
            self.sizes[key] = read_size(entry)
            found.append(key)
        if not found:
            raise AgentError("datastore {} has no partitions".format(store["name"]))
        return sorted(found, key=lambda key: key[0] != self.state.boot)

    def device(self, maas_id):
        found = [d for d in self.disks if d.get("maas_id") == maas_id]
        if len(found) != 1:
            raise AgentError("the deployment did not recognise MAAS's disk {}: nothing was changed".format(maas_id))
        if found[0]["name"] == self.boot_disk:
            return self.state.boot
        device = find_device(found[0], self.disks, self.state)
        if device == self.state.boot:
            raise AgentError("disk {} is ESXi's boot disk, which MAAS takes for another one".format(maas_id))
        return device

    def is_rest(self, device):
        """Whether MAAS has given all of a disk away, so that the last partition goes to its end."""
        ids = [d.get("maas_id") for d in self.disks if (
            d["name"] == self.boot_disk if device == self.state.boot else fits(d, device, self.state))]
        sizes = [read_size(e) for e in self.entries.values() if e.get("type") == "partition" and e.get("device") in ids]
        return sum(sizes) + SLACK >= self.state.table(device)[1] * SECTOR

    def plan(self, wanted):
        steps = []
        for device in sorted(set(device for device, _ in wanted), key=lambda d: d != self.state.boot):
            steps += self.plan_disk(device, sorted(n for d, n in wanted if d == device))
        return steps

    def plan_disk(self, device, numbers):
        label, sectors, there, misplaced = self.state.table(device)
        end, steps = sectors - 34, []
        if device == self.state.boot:
            steps += check_boot(device, numbers, there, self.state.version)
            steps += [Step(["partedUtil", "fix", DEVICES + device])] if misplaced else []
            start = max(last for _, last, _ in there.values()) + 1
        else:
            in_use = [name for name, extents in self.state.volumes().items() if device in [d for d, _ in extents]]
            if in_use:
                raise AgentError("disk {} holds the volume {}, which is not wiped".format(device, ", ".join(in_use)))
            steps.append(Step(["partedUtil", "mklabel", DEVICES + device, "gpt"]))
            start = 34
        for number in numbers:
            start = -(-start // ALIGN) * ALIGN
            last = start + self.sizes[device, number] // SECTOR - 1
            if number == numbers[-1] and self.is_rest(device):
                last = end
            steps.append(add_partition(device, number, start, last, end))
            start = last + 1
        return steps


def check_boot(device, numbers, there, version):
    reserved = RESERVED_6 if version < (7,) else RESERVED_7
    for number in numbers:
        if number in reserved or number in there:
            raise AgentError("partition {} of the boot disk {} is ESXi {}'s own or in use: choose MAAS's layout for this "
                             "version (VMFS6 up to 6.7, VMFS7 from 7.0)".format(number, device, ".".join(map(str, version))))
    return []


def add_partition(device, number, first, last, end):
    if last > end or (last - first + 1) * SECTOR < SMALLEST:
        raise AgentError("partition {} does not fit on {}: sectors {} to {} of {}".format(number, device, first, last, end))
    return Step(["partedUtil", "add", DEVICES + device, "gpt", "{} {} {} {} 0".format(number, first, last, VMFS)])


def make_volume(name, extents):
    nodes = ["{}{}:{}".format(DEVICES, device, number) for device, number in extents]
    return [Step(["vmkfstools", "-C", "vmfs6", "-S", name, nodes[0]])] + [
        Step(["vmkfstools", "-Z", node, nodes[0]], answer=b"0\n") for node in nodes[1:]]


def read_size(entry):
    found = re.match(r"(\d{1,18})B?$", str(entry.get("size")))
    if not found:
        raise AgentError("partition {}: its size {!r} is not in bytes".format(entry.get("id"), entry.get("size")))
    return int(found.group(1))


def plan_default(state, notes, name="datastore1"):
    """MAAS has no wish: all that is free on the boot disk is for datastore1."""
    device, there = state.boot, state.volumes().get(name)
    label, sectors, partitions, misplaced = state.table(device)
    end, used = sectors - 34, max(last for _, last, _ in partitions.values())
    fix = [Step(["partedUtil", "fix", DEVICES + device])] if misplaced else []
    if there:
        number = there[0][1]
        first, last = partitions.get(number, (0, 0, ""))[:2]
        if len(there) != 1 or there[0][0] != device or last != used or end - last < ALIGN:
            return []  # made by an earlier run, or not ours
        node = "{}{}:{}".format(DEVICES, device, number)
        return fix + [Step(["partedUtil", "resize", DEVICES + device, str(number), str(first), str(end)]),
                      Step(["vmkfstools", "--growfs", node, node])]
    first, number = -(-(used + 1) // ALIGN) * ALIGN, 3 if state.version < (7,) else 8
    if (end - first + 1) * SECTOR < SMALLEST or number in partitions:
        notes.append("{} is not made: {} has {} free bytes".format(name, device, max(0, end - first + 1) * SECTOR))
        return []
    return fix + [add_partition(device, number, first, end, end)] + make_volume(name, [(device, number)])
