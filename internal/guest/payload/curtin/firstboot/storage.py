"""Datastores: the plan for the partitions and volumes that MAAS's storage section asks for.

The whole plan is made before anything is changed: each disk of the layout is
found, or the deployment fails. A plan for a host on which a part is done
already, by a run that was cut short, holds only the rest.
"""

import re

from disks import DEVICES, SECTOR, State, candidates, find_boot, find_device  # noqa: F401: State is for agent.py
from host import AgentError, Step

VMFS = "AA31E02A400F11DB9590000C2911D1B8"  # partition type
ALIGN = 2048                               # sectors
RESERVE = 34                               # sectors at the end of a disk, for the backup GPT
SMALLEST = 1300 << 20                      # bytes; VMFS-6 needs as much
SLACK = 64 << 20                           # bytes; MAAS's rounding and reserves are less
GROWTH = 1 << 30                           # bytes; what VMFS keeps for itself is less
RESERVED_6, RESERVED_7 = (1, 2, 4, 5, 6, 7, 8, 9), (1, 2, 4, 5, 6, 7)
MAX_NUMBER = 128                           # of a partition in a GPT
LINUX = ("lvm_volgroup", "lvm_partition", "raid", "bcache", "dm_crypt", "zpool", "zfs")


def plan(section, disks, boot_disk, state, notes):
    entries = read_entries(section)
    state.boot = find_boot(disks, boot_disk, state)
    note_linux(entries, notes)
    stores = [e for e in entries.values() if e.get("type") == "vmfs6"]
    check_names([s.get("name") for s in stores])
    if not stores:
        return plan_default(state, notes)
    layout = Layout(entries, disks, boot_disk, state)
    wanted = [(s["name"], layout.extents(s)) for s in sorted(stores, key=lambda s: s["name"])]
    steps = layout.plan_disks(dict(wanted))
    for name, extents in wanted:
        steps += plan_volume(name, extents, state.volumes().get(name, []))
    return steps


def read_entries(section):
    """{id: entry}"""
    entries = section.get("config") or []
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise AgentError("the storage configuration is not a list of entries")
    for entry in entries:
        devices = entry.get("devices") or []
        texts = [entry.get(key, "") for key in ("id", "type", "device")]
        texts += devices if isinstance(devices, list) else [devices]
        if not all(isinstance(text, str) for text in texts):
            raise AgentError("the storage entry {!r} is not of the form of MAAS's".format(entry.get("id")))
    by_id = dict((e.get("id"), e) for e in entries)
    if len(by_id) != len(entries):
        raise AgentError("there are storage entries with the same id")
    return by_id


def note_linux(entries, notes):
    found = sorted(str(e.get("id")) for e in entries.values() if e.get("type") in LINUX or (
        e.get("type") == "format" and e.get("fstype") != "vmfs6"))
    if found:
        notes.append("not made, because ESXi has only datastores: " + ", ".join(found))


def check_names(names):
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= 42 or re.search(r"[/\\%]", name) or names.count(name) > 1:
            raise AgentError("datastore {!r}: not a name ESXi takes, or there twice".format(name))


class Layout:
    """MAAS's partitions for datastores, on ESXi's devices."""

    def __init__(self, entries, disks, boot_disk, state):
        self.entries, self.disks, self.boot_disk, self.state = entries, disks, boot_disk, state
        self.sizes = {}     # {(device, number): bytes}
        self.wiped = set()  # devices of which MAAS says that nothing on them is kept

    def extents(self, store):
        """(device, number) of a datastore's partitions, one on the boot disk first: MAAS sorts them by name."""
        found = []
        for partition in store.get("devices") or []:
            entry = self.entries.get(partition, {})
            if entry.get("type") != "partition" or entry.get("number") not in range(1, MAX_NUMBER + 1):
                raise AgentError("datastore {}: {} is no partition with a number".format(store["name"], partition))
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
        if self.entries.get(maas_id, {}).get("wipe"):
            self.wiped.add(device)
        return device

    def is_rest(self, device):
        """Whether MAAS has given all of a disk away, so that the last partition goes to its end."""
        ids = [d.get("maas_id") for d in self.disks if (
            d["name"] == self.boot_disk if device == self.state.boot else device in candidates(d, self.state))]
        sizes = [read_size(e) for e in self.entries.values() if e.get("type") == "partition" and e.get("device") in ids]
        return 0 <= self.state.table(device)[1] * SECTOR - sum(sizes) <= SLACK

    def plan_disks(self, stores):
        steps = []
        for device in sorted(set(device for device, _ in self.sizes), key=lambda d: (d != self.state.boot, d)):
            numbers = sorted(number for d, number in self.sizes if d == device)
            steps += self.plan_boot(numbers) if device == self.state.boot else self.plan_disk(device, numbers, stores)
        return steps

    def places(self, device, numbers, start, end):
        """{number: (first, last, type)}: the partitions one behind the other."""
        places = {}
        for number in numbers:
            start = align(start)
            last = start + self.sizes[device, number] // SECTOR - 1
            if number == numbers[-1] and self.is_rest(device):
                last = end
            check_size(device, number, start, last, end)
            places[number] = (start, last, VMFS)
            start = last + 1
        return places

    def plan_boot(self, numbers):
        """Behind ESXi's own partitions, none of which is touched."""
        device, version = self.state.boot, self.state.version
        _, sectors, there, misplaced = self.state.table(device)
        used = max(last for number, (_, last, _) in there.items() if number not in numbers)
        reserved = RESERVED_6 if version < (7,) else RESERVED_7
        for number in numbers:
            if number in reserved:
                raise AgentError("partition {} of the boot disk {} is ESXi {}'s own: choose MAAS's layout for this "
                                 "version (VMFS6 up to 6.7, VMFS7 from 7.0)".format(
                                     number, device, ".".join(map(str, version))))
        places = self.places(device, numbers, used + 1, sectors - RESERVE)
        for number in numbers:
            if there.get(number, places[number]) != places[number]:
                raise AgentError("partition {} of the boot disk {} is there already, from sector {} to {}, not {} to {}: "
                                 "the image has a datastore in it".format(
                                     number, device, *there[number][:2] + places[number][:2]))
        return fix(device, misplaced) + [
            add_partition(device, n, places[n]) for n in numbers if n not in there]

    def plan_disk(self, device, numbers, stores):
        """All of the disk is MAAS's. What a run that was cut short has left there is used."""
        label, sectors, there, _ = self.state.table(device)
        volumes = [name for name, extents in self.state.volumes().items() if device in [d for d, _ in extents]]
        places = self.places(device, numbers, RESERVE, sectors - RESERVE)
        ours = all(places.get(n) == place for n, place in there.items()) and all(v in stores for v in volumes)
        if label == "gpt" and ours:
            return [add_partition(device, n, places[n]) for n in numbers if n not in there]
        if volumes:
            raise AgentError("disk {} holds the volume {}, which is not wiped".format(device, ", ".join(volumes)))
        if there and device not in self.wiped:
            raise AgentError("disk {} has partitions, and MAAS does not say that they may be wiped".format(device))
        return [Step(["partedUtil", "mklabel", DEVICES + device, "gpt"])] + [
            add_partition(device, n, places[n]) for n in numbers]


def align(sector):
    return -(-sector // ALIGN) * ALIGN


def check_size(device, number, first, last, end):
    if last > end or (last - first + 1) * SECTOR < SMALLEST:
        raise AgentError("partition {} does not fit on {}: sectors {} to {} of {}".format(number, device, first, last, end))


def fix(device, misplaced):
    return [Step(["partedUtil", "fix", DEVICES + device])] if misplaced else []


def add_partition(device, number, place):
    return Step(["partedUtil", "add", DEVICES + device, "gpt", "{} {} {} {} 0".format(number, *place)])


def plan_volume(name, extents, there):
    """there: the extents it has already."""
    if there != extents[:len(there)]:
        raise AgentError("datastore {} is there already, on {}".format(name, ", ".join("{}:{}".format(*e) for e in there)))
    nodes = ["{}{}:{}".format(DEVICES, device, number) for device, number in extents]
    steps = [Step(["vmkfstools", "-Z", node, nodes[0]], answer=b"0\n") for node in nodes[max(1, len(there)):]]
    return steps if there else [Step(["vmkfstools", "-C", "vmfs6", "-S", name, nodes[0]])] + steps


def read_size(entry):
    found = re.match(r"(\d{1,18})B?$", str(entry.get("size")))
    if not found:
        raise AgentError("partition {}: its size {!r} is not in bytes".format(entry.get("id"), entry.get("size")))
    return int(found.group(1))


def plan_default(state, notes, name="datastore1"):
    """MAAS has no wish: all that is free on the boot disk is for datastore1."""
    device = state.boot
    _, sectors, partitions, misplaced = state.table(device)
    end = sectors - RESERVE
    if state.devices[device].get("Is USB") == "true":
        notes.append("{} is not made: the boot disk is a USB device, where ESXi supports none".format(name))
        return []
    if name in state.volumes():
        return fix(device, misplaced) + plan_growth(name, partitions, end, state, notes)
    number = 3 if state.version < (7,) else 8
    first = align(1 + max(last for n, (_, last, _) in partitions.items() if n != number))
    place = (first, end, VMFS)
    if partitions.get(number, place) != place or any((device, number) in v for v in state.volumes().values()):
        raise AgentError("partition {} of the boot disk {} is there already: the image has a datastore in it".format(
            number, device))
    if (end - first + 1) * SECTOR < SMALLEST:
        notes.append("{} is not made: {} has {} free bytes".format(name, device, max(0, end - first + 1) * SECTOR))
        return []
    added = [] if number in partitions else [add_partition(device, number, place)]
    return fix(device, misplaced) + added + plan_volume(name, [(device, number)], [])


def plan_growth(name, partitions, end, state, notes):
    """Extends a datastore to the end of the boot disk, if it is the last on it."""
    extents = state.volumes()[name]
    device, number = extents[0]
    first, last = partitions.get(number, (0, 0))[:2]
    if len(extents) > 1 or device != state.boot or last != max(p[1] for p in partitions.values()):
        notes.append("{} is not extended: it is on {}".format(name, ", ".join("{}:{}".format(*e) for e in extents)))
        return []
    node, steps = "{}{}:{}".format(DEVICES, device, number), []
    if end - last >= ALIGN:
        steps.append(Step(["partedUtil", "resize", DEVICES + device, str(number), str(first), str(end)]))
    if steps or (last - first + 1) * SECTOR - state.volume_size(name) >= GROWTH:  # an earlier run came no further
        steps.append(Step(["vmkfstools", "--growfs", node, node]))
    return steps
