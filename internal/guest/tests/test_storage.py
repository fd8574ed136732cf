"""The plan for datastores, on hosts made of dictionaries. Whole first boots are in test/firstboot."""

import os
import sys
import unittest
import unittest.mock

from machine import GIB, LAYOUT_6, LAYOUT_7, PAYLOAD, load_config

sys.path.insert(0, os.path.join(PAYLOAD, "firstboot"))

import disks    # noqa: E402
import host     # noqa: E402
import storage  # noqa: E402

BOOT, DATA = "naa.5000000000000001", "naa.5000000000000002"
VMFS = storage.VMFS


class Esxi:
    """A host's answers. tables: {device: (sectors, {number: (first, last)})}; no partitions is a blank disk."""

    journal = unittest.mock.Mock()

    def __init__(self, tables, volumes=(), boot=(BOOT,), sizes=(), misplaced=False):
        self.tables, self.volumes, self.boot, self.sizes, self.misplaced = tables, volumes, boot, sizes, misplaced

    def esxcli(self, *args):
        if args[-2:] == ("device", "list"):
            return "".join("{}\n   Is Boot Device: {}\n".format(name, str(name in self.boot).lower()) for name in self.tables)
        if args[-2:] == ("extent", "list"):
            rows = ["{:12}  {:4}  {:13}  {:80}  {}".format(name, "uuid", n, device, number)
                    for name, extents in self.volumes for n, (device, number) in enumerate(extents)]
            head = "{:12}  {:4}  {:13}  {:80}  {}".format("Volume Name", "UUID", "Extent Number", "Device Name", "Partition")
            return "\n".join([head, "{}  {}  {}  {}  {}".format("-" * 12, "-" * 4, "-" * 13, "-" * 80, "-" * 9)] + rows)
        if args[-2:] == ("filesystem", "list"):
            return "Volume Name  Size\n-----------  ----\n" + "".join("{:11}  {}\n".format(*row) for row in self.sizes)
        return ""

    def run(self, *argv):
        sectors, partitions = self.tables[argv[2].rpartition("/")[2]]
        complaint = "Error: The backup GPT table is not at the end of the disk, as it should be.\n" if self.misplaced else ""
        lines = [complaint + "gpt" if partitions else "unknown", "1 255 63 {}".format(sectors)]
        for number, (first, last) in sorted((n, p[:2]) for n, p in partitions.items()):
            kind = VMFS if number in (3, 8) or len(partitions) < 4 else "EBD0"
            lines.append("{} {} {} {} name 0".format(number, first, last, kind))
        return "\n".join(lines) + "\n"


def plan(esxi, version, config=(), records=(), boot_disk="sda"):
    notes = []
    steps = storage.plan({"config": list(config)}, list(records), boot_disk, storage.State(esxi, version), notes)
    return [str(step).replace(disks.DEVICES, "").replace(BOOT, "BOOT").replace(DATA, "DATA") for step in steps], notes


def system(version):
    """An installation's partitions."""
    return dict((LAYOUT_7 if version >= (7,) else LAYOUT_6)[0])


def records():
    return [{"name": "sda", "maas_id": "sda", "wwid": BOOT}, {"name": "sdb", "maas_id": "sdb", "wwid": DATA}]


def layout(*partitions, wipe="superblock"):
    """MAAS's entries for a datastore, dsN, on each partition of sdb: (N, bytes)."""
    entries = [{"type": "disk", "id": "sdb", "wipe": wipe}]
    for n, size in partitions:
        part, name = "sdb-part{}".format(n), "ds{}".format(n)
        entries += [{"type": "partition", "id": part, "device": "sdb", "number": n, "size": "{}B".format(size)},
                    {"type": "vmfs6", "name": name, "id": name, "devices": [part]}]
    return entries


class NameTest(unittest.TestCase):
    """Names of ESXi against what Linux tells of the same disk."""

    def test_fits(self):
        """The t10 names are those of public outputs of real hosts."""
        wd = "t10.NVMe____WD_BLACK_SN850X_4000GB__________________4695514E8B441B00"
        hpe = "t10.NVMe____EO000750KWTXC___________________________00014935E3E4D25C"
        seagate = "t10.ATA_____ST20000NM007D2D3DJ103________________________________ZVTBWXYS"
        samsung = "t10.ATA_____Samsung_SSD_750_EVO_120GB_______________S3F2NWBHB56997P_____"
        for disk, name, want in (
                ({"wwid": "naa.5002538b1234a5b0"}, "naa.5002538b1234a5b0", True),
                ({"wwid": "naa.5002538b1234a5b1"}, "naa.5002538b1234a5b0", False),
                ({"udev": {"ID_WWN_WITH_EXTENSION": "0x600508b1001c"}}, "naa.600508b1001c", True),
                ({"eui": "001b448b4e519546"}, wd, True), ({"eui": "4695514e8b441b00"}, wd, False),
                ({"eui": "5cd2e4e335490100"}, hpe, True), ({"serial": "PHKE018000T8750BGN"}, hpe, False),
                ({"nguid": "36344730526003120025384500000001"}, "eui.36344730526003120025384500000001", True),
                ({"serial": "ZVTBWXYS"}, seagate, True), ({"serial": "VTBWXYS"}, seagate, False),
                ({"serial": "S3F2NWBHB56997P"}, samsung, True), ({"serial": "S3F2NWBHB56997"}, samsung, False),
                ({"serial": "PHYG025503H31P9DGN"}, "t10.ATA_____INTEL_SSDSC2KG019T8_____________________PHYG025503H31P9DGN__", True),
                ({"serial": "WD-WCC4N0123456"}, "t10.ATA_____WDC_WD40EFRX2D68N32N0_" + "_" * 20 + "WD2DWCC4N0123456_____", True),
                ({"serial": ""}, "t10.ATA_____x", False), ({}, "naa.", False), ({}, wd, False), ({"wwid": ""}, "mpx.vmhba1:C0:T0:L0", False)):
            with self.subTest(disk, name=name):
                self.assertEqual(disks.has_name(disk, name), want)

    def test_ambiguous(self):
        state, twins = unittest.mock.Mock(serials={}), [{"name": "sda", "wwid": "naa.1"}, {"name": "sdb", "wwid": "naa.1"}]
        for devices, reason in ((["naa.1"], "sda, sdb and naa.1 fit each other"), (["naa.2"], "none of ESXi's fits")):
            state.devices = devices
            with self.subTest(devices), self.assertRaisesRegex(host.AgentError, reason):
                disks.find_device(twins[0], twins, state)

    def test_namespaces_of_one_drive(self):
        """They have the same serial number, but an EUI-64 each."""
        names = ["t10.NVMe____X" + "_" * 39 + digits for digits in ("0100000000441B00", "0200000000441B00")]
        state = unittest.mock.Mock(devices=names, serials=dict.fromkeys(names, "S1"))
        spaces = [{"name": "nvme0n" + n, "serial": "S1", "eui": "001b44000000000" + n} for n in ("1", "2")]
        self.assertEqual([disks.find_device(d, spaces, state) for d in spaces], names)
        for space in spaces:
            del space["eui"]
        with self.assertRaisesRegex(host.AgentError, "nvme0n1, nvme0n2 and .* fit each other"):
            disks.find_device(spaces[0], spaces, state)

    def test_driver_that_tells_no_serial_number(self):
        esxi = unittest.mock.Mock()
        esxi.esxcli.side_effect = ["uid\n   Device: eui.1\n   Adapter: vmhba2\n", host.AgentError("no such adapter")]
        self.assertEqual(disks.nvme_serials(esxi), {})
        self.assertIn("eui.1 has no known serial number", esxi.journal.say.call_args[0][0])


class BootDiskTest(unittest.TestCase):
    """ESXi's "Is Boot Device" against the disk that the hook saw the image on."""

    def find(self, record, boot=(BOOT,), sectors=100 * GIB // 512, numbers=(1, 5, 6)):
        esxi = Esxi({BOOT: (sectors, dict.fromkeys(numbers, (64, 99))), DATA: (sectors, dict.fromkeys(numbers, (64, 99)))}, boot=boot)
        return disks.find_boot([dict(record, name="sda")], "sda", storage.State(esxi, (8, 0, 3)))

    def test_found(self):
        size = 100 * GIB
        for record, boot, want in (({"wwid": BOOT}, (BOOT,), BOOT),     # both say it
                                   ({"size": size}, (BOOT,), BOOT),     # Linux knows no identity, the size is right
                                   ({}, (DATA,), DATA),
                                   ({"wwid": DATA}, (), DATA),          # ESXi does not tell, or takes two for it
                                   ({"wwid": DATA}, (BOOT, DATA), DATA)):
            with self.subTest(record, boot=boot):
                self.assertEqual(self.find(record, boot), want)

    def test_refused(self):
        for record, boot, reason in (({"wwid": DATA}, (BOOT,), "ESXi runs from " + BOOT + ", but the image was written to sda, which is " + DATA),
                                     ({"size": 99 * GIB}, (BOOT,), "bytes, but the image was written to sda with"),
                                     ({}, (), "no disks are this host's boot disk"),
                                     ({"size": 100 * GIB}, (BOOT, DATA), "2 disks are this host's boot disk")):
            with self.subTest(record, boot=boot), self.assertRaisesRegex(host.AgentError, reason):
                self.find(record, boot)
        with self.assertRaisesRegex(host.AgentError, "not ESXi's boot disk: it has no partition 5, 6"):
            self.find({"wwid": BOOT}, numbers=(1, 2))


class DefaultTest(unittest.TestCase):
    """MAAS has no wish: datastore1 takes what is free on the boot disk."""

    def test_to_the_end_of_the_disk(self):
        """The arithmetic: the first MiB behind the last partition, and sector N-34."""
        for version, size, place in (
                ((6, 5, 0), 64 * GIB, "3 15472640 134217694"), ((6, 7, 0), 240057409536, "3 15472640 468862094"),
                ((7, 0, 3), 64 * GIB, "8 67108864 134217694"), ((8, 0, 3), 480103981056, "8 67108864 937703054"),
                ((9, 0, 0), 4 << 40, "8 67108864 8589934558"), ((9, 0, 0), 250 * 10 ** 9, "8 67108864 488281216")):
            with self.subTest(version, size=size):
                sectors = size // 512
                steps, notes = plan(Esxi({BOOT: (sectors, system(version))}), version)
                number, first, last = place.split()
                self.assertEqual(steps, ["partedUtil add BOOT gpt {} {} 0".format(place, VMFS), "vmkfstools -C vmfs6 -S datastore1 BOOT:" + number])
                self.assertEqual((int(last), int(first) % 2048, notes), (sectors - 34, 0, []))

    def test_disk_of_the_size_of_the_image(self):
        steps, notes = plan(Esxi({BOOT: (32 * GIB // 512, system((8,)))}), (8, 0, 3))
        self.assertEqual((steps, notes), ([], ["datastore1 is not made: " + BOOT + " has 0 free bytes"]))

    def test_usb_stick(self):
        esxi = Esxi({BOOT: (10 ** 9, system((6,)))})
        state = storage.State(esxi, (6, 7, 0))
        state.devices[BOOT]["Is USB"] = "true"
        notes = []
        self.assertEqual(storage.plan({}, [], "sda", state, notes), [])
        self.assertEqual(notes, ["datastore1 is not made: the boot disk is a USB device, where ESXi supports none"])

    def test_backup_table_is_moved_first(self):
        steps, _ = plan(Esxi({BOOT: (10 ** 9, system((8,)))}, misplaced=True), (8, 0, 3))
        self.assertEqual(steps[0], "partedUtil fix BOOT")

    def grow(self, last, size, extents=((BOOT, 8),), behind=()):
        table = system((8,))
        table[8] = (67108864, last)
        table.update(behind)
        esxi = Esxi({BOOT: (200 * GIB // 512, table), DATA: (10 ** 9, {1: (2048, 9999999)})}, [("datastore1", extents)], sizes=[("datastore1", size)])
        return plan(esxi, (8, 0, 3))

    def test_grown_to_the_end_of_the_disk(self):
        end = 200 * GIB // 512 - 34
        steps, _ = self.grow(100 * GIB // 512, 68 * GIB)
        self.assertEqual(steps, ["partedUtil resize BOOT 8 67108864 {}".format(end), "vmkfstools --growfs BOOT:8 BOOT:8"])

    def test_grown_where_an_earlier_run_came_no_further(self):
        end = 200 * GIB // 512 - 34
        self.assertEqual(self.grow(end, 68 * GIB)[0], ["vmkfstools --growfs BOOT:8 BOOT:8"])
        self.assertEqual(self.grow(end, (168 << 30) - (300 << 20))[0], [], "a second run has nothing to do")

    def test_not_grown(self):
        for arguments in ({"extents": ((DATA, 1),)}, {"extents": ((BOOT, 8), (DATA, 1))}, {"behind": [(9, (10 ** 8 * 3, 10 ** 8 * 4))]}):
            with self.subTest(arguments):
                steps, notes = self.grow(100 * GIB // 512, 68 * GIB, **arguments)
                self.assertEqual((steps, notes[0][:35]), ([], "datastore1 is not extended: it is o"))

    def test_half_partitioned(self):
        """A run that was cut short left a partition without a volume: it is used if it is what would be
        made now, and nothing is touched otherwise, for it may be a volume that ESXi does not mount."""
        table = system((8,))
        table[8] = (67108864, 10 ** 9 - 34)
        self.assertEqual(plan(Esxi({BOOT: (10 ** 9, table)}), (8, 0, 3))[0], ["vmkfstools -C vmfs6 -S datastore1 BOOT:8"])
        table[8] = (67108864, 10 ** 9 - 35)
        with self.assertRaisesRegex(host.AgentError, "partition 8 of the boot disk .* is there already"):
            plan(Esxi({BOOT: (10 ** 9, table)}), (8, 0, 3))
        table[8] = (67108864, 10 ** 9 - 34)
        with self.assertRaisesRegex(host.AgentError, "is there already"):
            plan(Esxi({BOOT: (10 ** 9, table)}, [("other", [(BOOT, 8)])]), (8, 0, 3))

    def test_what_linux_would_have_is_named(self):
        config = [{"id": "vg", "type": "lvm_volgroup"}, {"id": "root_format", "type": "format", "fstype": "ext4"},
                  {"id": "sda", "type": "disk"}]
        _, notes = plan(Esxi({BOOT: (10 ** 9, system((8,)))}), (8, 0, 3), config)
        self.assertEqual(notes, ["not made, because ESXi has only datastores: root_format, vg"])


class ReservedTest(unittest.TestCase):
    def test_partitions_of_esxi_are_never_touched(self):
        """Every number of every version, whatever MAAS says."""
        free = {6: (3, 10, 11, 99), 7: (3, 8, 9, 10, 11, 99)}
        for version in ((6, 5, 0), (6, 7, 0), (7, 0, 0), (7, 0, 3), (8, 0, 3), (9, 0, 0)):
            for number in list(range(12)) + [99]:
                with self.subTest(version, number=number):
                    config = [dict(e, device="sda") if e["type"] == "partition" else e for e in layout((number, 10 * GIB))]
                    esxi = Esxi({BOOT: (10 ** 9, system(version)), DATA: (10 ** 9, {})})
                    if number in free[min(version[0], 7)]:
                        steps, _ = plan(esxi, version, config, records())
                        self.assertEqual([s.split()[:5] for s in steps[:1]], [["partedUtil", "add", "BOOT", "gpt", str(number)]])
                        self.assertFalse([s for s in steps if "mklabel" in s or "delete" in s or "resize" in s])
                    else:
                        with self.assertRaisesRegex(host.AgentError, "own|number"):
                            plan(esxi, version, config, records())


class WipeTest(unittest.TestCase):
    """Disks of datastores beside the boot disk."""

    def plan(self, config, table=None, volumes=(), sectors=100 * GIB // 512, devices=None):
        tables = {BOOT: (10 ** 9, system((8,))), DATA: (sectors, table or {})}
        tables.update(devices or {})
        return plan(Esxi(tables, volumes), (8, 0, 3), config, records())[0]

    def test_numbers_of_maas(self):
        """1 on UEFI machines, 2 on the first disk of BIOS ones."""
        for number in (1, 2):
            self.assertEqual(self.plan(layout((number, 100 * GIB - (8 << 20)))), [
                "partedUtil mklabel DATA gpt", "partedUtil add DATA gpt {} 2048 209715166 {} 0".format(number, VMFS),
                "vmkfstools -C vmfs6 -S ds{0} DATA:{0}".format(number)])

    def test_two_datastores_on_one_disk(self):
        steps = self.plan(layout((1, 40 * GIB), (2, 60 * GIB - (8 << 20))))
        self.assertEqual([s.split(" ", 4)[4][:-35] for s in steps[1:3]], ["1 2048 83888127", "2 83888128 209715166"])

    def test_part_of_a_disk(self):
        self.assertIn("gpt 1 2048 83888127 ", self.plan(layout((1, 40 * GIB)))[1])

    def test_old_table_is_replaced(self):
        self.assertEqual(self.plan(layout((1, 90 * GIB)), {1: (2048, 4095), 4: (8192, 9999)})[0], "partedUtil mklabel DATA gpt")

    def test_without_leave_to_wipe(self):
        """MAAS says wipe of each disk of a layout; without it only a blank disk is used."""
        config = layout((1, 90 * GIB), wipe=None)
        self.assertEqual(self.plan(config)[0], "partedUtil mklabel DATA gpt")
        with self.assertRaisesRegex(host.AgentError, "MAAS does not say that they may be wiped"):
            self.plan(config, {4: (8192, 9999)})

    def test_volume_is_not_wiped(self):
        with self.assertRaisesRegex(host.AgentError, "holds the volume old, which is not wiped"):
            self.plan(layout((1, 90 * GIB)), {1: (2048, 9999999)}, [("old", [(DATA, 1)])])

    def test_ambiguous_match_is_not_wiped(self):
        twins = records() + [{"name": "sdc", "wwid": DATA}]
        with self.assertRaisesRegex(host.AgentError, "sdb, sdc and " + DATA + " fit each other; nothing was changed"):
            plan(Esxi({BOOT: (10 ** 9, system((8,))), DATA: (10 ** 9, {})}), (8, 0, 3), layout((1, 90 * GIB)), twins)

    def test_volumes_that_are_not_understood_are_not_taken_for_none(self):
        esxi = Esxi({BOOT: (200 * GIB // 512, system((8,))), DATA: (10 ** 9, {1: (2048, 9999999)})})
        answers = esxi.esxcli
        for text in ("Errors: not now", "Volume Name  Partition\n-----------  ---------\nprecious             1\n",
                     "Volume Name  Extent Number  Device Name  Partition\n-----------  -------------  -----------  ---------\n"
                     "precious                 0  naa.1                x\n"):
            esxi.esxcli = lambda *args: text if args[-2:] == ("extent", "list") else answers(*args)
            with self.subTest(text), self.assertRaisesRegex(host.AgentError, "cannot understand esxcli storage vmfs extent list"):
                plan(esxi, (8,), layout((1, GIB * 10)), records())
        esxi.esxcli = lambda *args: "" if args[-2:] == ("extent", "list") else answers(*args)
        self.assertIn("partedUtil mklabel DATA gpt", plan(esxi, (8,), layout((1, GIB * 10)), records())[0])

    def test_disk_that_esxi_boots_from(self):
        wrong = [{"name": "sda", "maas_id": "sda"}, {"name": "sdb", "maas_id": "sdb", "wwid": BOOT}]
        with self.assertRaisesRegex(host.AgentError, "sdb is ESXi's boot disk, which MAAS takes for another one"):
            plan(Esxi({BOOT: (10 ** 9, system((8,)))}), (8, 0, 3), layout((1, 90 * GIB)), wrong)

    def test_interrupted_run_goes_on(self):
        """Each state that a run can be cut short in: what is left to do, without wiping anything again."""
        config = layout((1, 40 * GIB), (2, 60 * GIB - (8 << 20)))
        whole, places = self.plan(config), {1: (2048, 83888127), 2: (83888128, 209715166)}
        one, two = ("ds1", [(DATA, 1)]), ("ds2", [(DATA, 2)])
        for table, volumes, done in (({}, [], 0), ({1: places[1]}, [], 2), (places, [], 3), (places, [one], 4), (places, [one, two], 5)):
            with self.subTest(done=done):
                self.assertEqual(self.plan(config, table, volumes), whole[done:])

    def test_interrupted_spanning_goes_on(self):
        config = layout((1, 90 * GIB))
        config += [{"type": "partition", "id": "sda-part8", "device": "sda", "number": 8, "size": str(20 * GIB)}]
        config[2]["devices"] = ["sda-part8", "sdb-part1"]
        table = system((8,))
        table[8] = (67108864, 67108864 + 20 * GIB // 512 - 1)
        left = self.plan(config, {1: (2048, 2047 + 90 * GIB // 512)}, [("ds1", [(BOOT, 8)])], devices={BOOT: (10 ** 9, table)})
        self.assertEqual(left, ["vmkfstools -Z DATA:1 BOOT:8"])

    def test_same_name_elsewhere(self):
        with self.assertRaisesRegex(host.AgentError, "datastore ds1 is there already, on " + BOOT + ":8"):
            self.plan(layout((1, 90 * GIB)), volumes=[("ds1", [(BOOT, 8)])])

    def test_too_small(self):
        for size in (GIB, 101 * GIB):
            with self.assertRaisesRegex(host.AgentError, "partition 1 does not fit on " + DATA):
                self.plan(layout((1, size)))


class HostileTest(unittest.TestCase):
    def test_storage_of_wrong_types(self):
        """Each value of a layout, replaced by something else: refused or ignored, never a crash."""
        section = load_config("c-vmfs6-extra-disks")["storage"]
        drives = [{"name": name, "maas_id": name, "wwid": "naa." + name} for name in ("sda", "sdb", "sdc")]
        tables = {"naa.sda": (468862128, system((6,))), "naa.sdb": (7814037168, {}), "naa.sdc": (7814037168, {})}
        for entry in section["config"]:
            for key in list(entry):
                kept = entry[key]
                for value in (None, 0, -1, "x", [], {}, [[]], 1 << 70, "\0"):
                    entry[key] = value
                    with self.subTest(entry=entry.get("id"), key=key, value=value):
                        try:
                            plan(Esxi(tables, boot=("naa.sda",)), (6, 7, 0), section["config"], drives)
                        except host.AgentError:
                            pass
                entry[key] = kept


if __name__ == "__main__":
    unittest.main()
