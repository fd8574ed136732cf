"""The hook on machines made of files. The real programs and file systems are in test/curtin."""

import contextlib
import io
import os
import resource
import struct
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import zlib

from machine import GIB, HERE, LAYOUT_6, LAYOUT_7, SECTOR, SGDISK, Machine, load_config, load_hook, write_table

hook = load_hook()
NO_PROBLEMS = "#!/bin/sh\necho 'No problems found. 1 free sectors'\n"


def broken(path):
    raise OSError(5, "Input/output error")


def page80(serial):
    return b"\0\x80" + len(serial).to_bytes(2, "big") + serial.encode()


class HookTest(unittest.TestCase):
    def setUp(self):
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # the hook syncs a lot
        base = tempfile.TemporaryDirectory(dir=memory)
        self.addCleanup(base.cleanup)
        self.base = base.name
        patch = unittest.mock.patch.dict(os.environ)
        patch.start()
        self.addCleanup(patch.stop)
        self.addCleanup(setattr, tempfile, "tempdir", None)
        self.path = os.environ["PATH"]
        self.fresh()

    def fresh(self):
        """Goes on with another machine."""
        os.environ["PATH"] = self.path
        directory = os.path.join(self.base, str(len(os.listdir(self.base))))
        os.mkdir(directory)
        self.machine = Machine(directory)
        os.environ.update(self.machine.environ())
        tempfile.tempdir = self.machine.temporary

    def prepare(self, config="d-flat-default", disk="sda", layout=LAYOUT_7, size=64 * GIB, **attributes):
        self.machine.add_disk(disk, size, **attributes)
        self.machine.deploy(disk, layout)
        self.machine.configure(load_config(config) if isinstance(config, str) else config)

    def run_hook(self):
        """Runs the hook; returns its exit status, its output and the last line of its errors (self.errors)."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                hook.finish(os.environ, self.machine.root)
                status = 0
            except Exception as e:
                status = hook.failed(e)
        self.errors = err.getvalue().splitlines()
        self.assertEqual(os.listdir(self.machine.temporary), [], "a mount point was left behind")
        self.assertFalse(os.path.exists(os.path.join(self.machine.target, "root")), "credentials were left behind")
        return status, out.getvalue(), (self.errors or [""])[-1]

    def assert_deployed(self):
        status, out, reason = self.run_hook()
        self.assertEqual((status, reason), (0, ""))
        return out

    def assert_refused(self, reason, untouched=True):
        before = self.sector(1)
        status, _, last = self.run_hook()
        self.assertEqual(status, 1)
        self.assertIn(reason, last)
        self.assertIsNone(self.machine.stored())
        if untouched:
            self.assertEqual(self.sector(1), before, "the disk was written to")

    def sector(self, number, disk="sda"):
        with open(self.machine.node(disk), "rb") as f:
            f.seek(number * SECTOR)
            return f.read(SECTOR)

    def poke(self, offset, data, disk="sda"):
        with open(self.machine.node(disk), "r+b") as f:
            f.seek(offset)
            f.write(data)


class DeployTest(HookTest):
    def test_disk_kinds(self):
        for disk in ("sda", "nvme0n1", "mmcblk0"):
            with self.subTest(disk):
                self.fresh()
                self.machine.add_disk(disk + "a" if disk == "sda" else disk[:-1] + "2", 8 * GIB)  # a neighbour
                self.prepare(disk=disk)
                self.assert_deployed()
                self.assertEqual(self.machine.document()["boot_disk"], disk)

    def test_partition_numbers_of_two_digits(self):
        """sda16 and sda60 are not sda6, whatever comes first in a listing."""
        partitions, made_on = LAYOUT_7
        more = {number: (67110912 + n * 4096, 67110912 + n * 4096 + 4095) for n, number in enumerate((10, 15, 16, 50, 60, 61))}
        for disk in ("sda", "nvme0n1", "mmcblk0"):
            with self.subTest(disk):
                self.fresh()
                self.prepare(disk=disk, layout=({**partitions, **more}, made_on))
                out = self.assert_deployed()
                self.assertIn("/{}{}6\n".format(disk, "" if disk == "sda" else "p"), out)

    def test_document_and_payload(self):
        self.prepare()
        out = self.assert_deployed()
        document, config = self.machine.document(), load_config("d-flat-default")
        self.assertEqual(document["network"], config["network"])
        self.assertEqual(document["storage"], config["storage"])
        self.assertEqual(document["reporting"], {k: v for k, v in config["reporting"]["maas"].items() if k != "type"})
        self.assertEqual(document["esxi"], {"version": "8.0.3", "build": "24677879"})
        self.assertEqual((document["format"], document["firmware"], document["ignored"]), (1, "bios", []))
        agent = os.listdir(os.path.join(self.machine.target, "curtin/firstboot"))
        self.assertEqual(sorted(self.machine.stored()), sorted(agent + ["config.json"]))
        self.assertNotIn(document["reporting"]["token_secret"], out)

    def test_runs_twice(self):
        self.prepare()
        self.assert_deployed()
        first, head = self.machine.stored(), self.sector(1)
        self.machine.write(os.path.join(self.machine.target, "root/curtin-install-cfg.yaml"), b"x")
        self.machine.write(os.path.join(self.machine.bank2, "esxid/leftover"), b"x")
        self.assert_deployed()
        self.assertEqual((self.machine.stored(), self.sector(1)), (first, head))

    def test_unknown_version_is_no_reason_to_fail(self):
        self.prepare()
        os.remove(os.path.join(self.machine.directory, "banks/sda5/boot.cfg"))
        self.assert_deployed()
        self.assertEqual(self.machine.document()["esxi"], {"version": "", "build": ""})

    def test_credentials_are_overwritten(self):
        self.prepare()
        copy = os.path.join(self.machine.target, "root/curtin-install-cfg.yaml")
        os.link(copy, os.path.join(self.machine.directory, "data"))  # sees what stays on the disk
        self.assert_deployed()
        with open(os.path.join(self.machine.directory, "data"), "rb") as f:
            self.assertEqual(f.read().strip(b"\0"), b"")


class BackupTableTest(HookTest):
    def with_real_sgdisk(self):
        os.remove(os.path.join(self.machine.directory, "bin/sgdisk"))

    def assert_backup(self, size, disk="sda"):
        last = size // SECTOR - 1
        report = subprocess.check_output(["sgdisk", "-v", self.machine.node(disk)], stderr=subprocess.STDOUT).decode()
        self.assertIn("No problems found", report)
        with open(self.machine.node(disk), "rb") as f:
            primary, backup = hook.Table(f, 1), hook.Table(f, last)
        self.assertEqual((primary.alternate, backup.alternate), (last, 1))
        self.assertTrue(backup.is_copy_of(primary))

    def test_disk_of_exactly_the_layout(self):
        size = (15472639 + 1 + 33) * SECTOR
        self.prepare(layout=LAYOUT_6, size=size)
        self.assert_deployed()
        self.assert_backup(size)

    def test_table_of_an_earlier_system(self):
        """Where the image's header points to, and at the end of a disk smaller than the one it was made on."""
        for size, place in ((64 * GIB, 32 * GIB), (16 * GIB, 16 * GIB)):
            with self.subTest(size=size):
                self.fresh()
                self.prepare(layout=LAYOUT_6, size=size)
                if place == size:
                    self.with_real_sgdisk()
                with open(self.machine.node("sda"), "r+b") as f:
                    write_table(f, {1: (2048, 9999)}, place // SECTOR - 1, 1)
                self.assertIn("earlier system", self.assert_deployed())
                self.assert_backup(size)

    def test_sgdisk_finds_problems_with_status_0(self):
        self.prepare()
        self.machine.program("sgdisk", "#!/bin/sh\necho 'Problem: overlap'\necho 'Identified 1 problems!'\n")
        self.assert_refused("in disorder: Problem: overlap")

    def test_sgdisk_fails(self):
        self.prepare()
        self.machine.program("sgdisk", "#!/bin/sh\necho 'Aborting write'\nexit 4\n")
        self.assert_refused("failed with status 4: Aborting write")

    def test_sgdisk_changes_the_entries(self):
        self.prepare()
        damage = "printf x | dd of=\"$2\" bs=1 seek=$((2 * 512 + 60)) conv=notrunc status=none"
        self.machine.program("sgdisk", SGDISK.replace("[ ", "[ $1 = --verify ] || {}\n[ ".format(damage), 1).format(
            python=sys.executable, machine=os.path.join(HERE, "machine.py")))
        self.assert_refused("is not what it should be after sgdisk", untouched=False)

    def test_sgdisk_does_nothing(self):
        self.prepare()
        self.machine.program("sgdisk", NO_PROBLEMS)
        self.assert_refused("no GPT header in sector 134217727")


class RefusalTest(HookTest):
    def test_4kn_disk(self):
        self.prepare(queue__logical_block_size=4096)
        self.assert_refused("sectors of 4096 bytes")

    def test_secure_boot(self):
        variable = "sys/firmware/efi/efivars/" + hook.SECURE_BOOT
        self.prepare()
        self.machine.write(os.path.join(self.machine.root, variable), b"\6\0\0\0\1")
        self.assert_refused("Secure Boot is on")

    def test_secure_boot_off(self):
        variable = "sys/firmware/efi/efivars/" + hook.SECURE_BOOT
        self.prepare()
        self.machine.write(os.path.join(self.machine.root, variable), b"\6\0\0\0\0")
        self.assertNotIn("Secure Boot", self.assert_deployed())
        self.assertEqual(self.machine.document()["firmware"], "uefi")

    def test_secure_boot_unknown(self):
        self.prepare()
        os.makedirs(os.path.join(self.machine.root, "sys/firmware/efi"))
        self.assertIn("does not tell whether Secure Boot", self.assert_deployed())

    def test_disk_one_sector_too_small(self):
        self.prepare(layout=LAYOUT_6, size=(15472639 + 33) * SECTOR)
        self.assert_refused("too small: it has 7922008064 bytes and the image's partitions need 7922008576")

    def test_bank_without_mark(self):
        for number in (5, 6):
            with self.subTest(number):
                self.fresh()
                self.prepare()
                self.poke((LAYOUT_7[0][number][0] + 1) * SECTOR, bytes(16))
                self.assert_refused("partition {} of /dev/sda has no boot bank".format(number))

    def test_image_without_bank(self):
        self.prepare()
        with open(self.machine.node("sda"), "r+b") as f:
            write_table(f, {1: (64, 8191), 5: LAYOUT_7[0][5]}, 1, 67108863)
        self.assert_refused("no partition 6")

    def test_damaged_tables(self):
        for offset, reason in ((SECTOR, "no GPT header"), (SECTOR + 40, "damaged GPT header"),
                               (2 * SECTOR + 60, "damaged GPT entries")):
            with self.subTest(reason):
                self.fresh()
                self.prepare()
                self.poke(offset, b"\xff")
                self.assert_refused(reason)

    def test_kernel_has_another_table(self):
        self.prepare()
        self.machine.attribute("sda", "sda6/start", 4096)
        self.assert_refused("the kernel's partition 6 of /dev/sda is not the image's", untouched=False)

    def test_hook_on_another_partition(self):
        self.machine.add_disk("sda", 64 * GIB)
        self.machine.deploy("sda", mounted=6)
        self.machine.configure(load_config("d-flat-default"))
        self.assert_refused("this hook is on /dev/sda6")

    def test_whole_disk_mounted(self):
        self.prepare()
        self.machine.mount("/dev/sda")
        self.assert_refused("/dev/sda is not a partition")

    def test_nothing_mounted(self):
        self.prepare()
        self.machine.write(os.path.join(self.machine.root, "proc/mounts"), b"/dev/sda1 /mnt vfat rw 0 0\n")
        self.assert_refused("nothing is mounted at")

    def test_no_agent_in_the_image(self):
        self.prepare()
        os.rename(os.path.join(self.machine.target, "curtin/firstboot"), os.path.join(self.machine.directory, "away"))
        self.assert_refused("cannot find the first-boot agent")


class ConfigurationTest(HookTest):
    def test_hostile_files(self):
        for data, reason in ((b"", "not valid JSON"), (b"[1]", "not a JSON object"), (b"\xff{}", "not valid JSON"),
                             (b"[" * 100000, "not valid JSON"), (b" " * (4 << 20) + b"{}", "more than"),
                             (b"{}", "not version 1"), (b'{"network": {"version": 2}}', "not version 1"),
                             (b'{"network": {"version": 1}}', "no reporting.maas.endpoint")):
            with self.subTest(data[:40]):
                self.fresh()
                self.prepare()
                self.machine.write(self.machine.config_path, data)
                self.assert_refused(reason)

    def test_no_configuration(self):
        self.prepare()
        os.remove(self.machine.config_path)
        self.assert_refused("No such file")
        with unittest.mock.patch.dict(os.environ, {"CONFIG": ""}):
            self.assert_refused("CONFIG is not set")

    def test_unsupported_is_an_error(self):
        self.prepare("f-unsupported")
        self.assert_refused("mode balance-tlb of bond bond0 (only balance-rr, active-backup, 802.3ad); bridge br0")

    def test_unsupported_can_be_a_warning(self):
        self.prepare("f-unsupported")
        self.machine.write(os.path.join(self.machine.target, "curtin/esxid.json"), b'{"unsupported": "warn"}')
        self.assertIn("warning: not supported: bridge br0", self.assert_deployed())
        self.assertIn("bridge br0", self.machine.document()["ignored"])

    def test_unknown_setting(self):
        self.prepare()
        self.machine.write(os.path.join(self.machine.target, "curtin/esxid.json"), b'{"unsupported": "maybe"}')
        self.assert_refused("unsupported is 'maybe'")

    def test_authority_of_vcenter_is_passed_on(self):
        self.prepare()
        self.machine.write(os.path.join(self.machine.target, "curtin/esxid.json"), b'{"unsupported": "error", "vcenter_ca": "PEM"}')
        self.assert_deployed()
        self.assertEqual(self.machine.document()["vcenter_ca"], "PEM")

    def test_bond_modes(self):
        for mode, supported in (("balance-rr", True), ("active-backup", True), ("802.3ad", True),
                                ("balance-xor", False), ("broadcast", False), ("balance-tlb", False),
                                ("balance-alb", False), (None, False), ([], False)):
            config = {"network": {"version": 1, "config": [
                {"type": "bond", "name": "bond0", "params": {"bond-mode": mode}}]}}
            self.assertEqual(hook.unsupported_network(config) == [], supported, mode)


class HostileTest(HookTest):
    def test_configuration_of_wrong_types(self):
        """Each node of a configuration, replaced by something else: refused or ignored, never a crash."""
        self.machine.add_disk("sda", 64 * GIB, device__vpd_pg80=page80("BTYF00000001240AGN"))
        disk = hook.Disk(os.path.realpath(os.path.join(self.machine.root, "sys/block/sda")), self.machine.root)
        for name in ("c-vmfs6-extra-disks", "f-unsupported"):
            config = {key: load_config(name)[key] for key in ("network", "storage", "reporting")}
            for container, key in list(nodes(config)):
                kept = container[key]
                for value in (None, 0, "x", [], {}, [[]], {"config": 1}):
                    container[key] = value
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(hook.HookError):
                        disks = hook.list_disks(config, self.machine.root)
                        hook.check_config(config, {"unsupported": "warn"}, disk, disks)
                        hook.reporting(config)
                container[key] = kept

    def test_tables_of_wrong_values(self):
        """Each field of a header with a good checksum at its limits."""
        self.prepare()
        node = self.machine.node("sda")
        with open(node, "rb") as f:
            f.seek(SECTOR)
            good = f.read(SECTOR)
        for offset, form in ((12, "<I"), (24, "<Q"), (32, "<Q"), (72, "<Q"), (80, "<I"), (84, "<I"), (88, "<I")):
            for value in (0, 1, 1 << 31, (1 << (8 * struct.calcsize(form))) - 1):
                header = bytearray(good)
                if struct.unpack_from(form, header, offset)[0] == value:
                    continue
                struct.pack_into(form, header, offset, value)
                size = min(struct.unpack_from("<I", header, 12)[0], SECTOR)
                struct.pack_into("<I", header, 16, 0)
                struct.pack_into("<I", header, 16, zlib.crc32(bytes(header[:size])))
                self.poke(SECTOR, header)
                with self.subTest(offset=offset, value=value), contextlib.suppress(hook.HookError):
                    disk = hook.Disk(os.path.realpath(os.path.join(self.machine.root, "sys/block/sda")), self.machine.root)
                    table = hook.check_disk(disk)
                    self.assertEqual(offset, 32, "a wrong field was accepted")
                    hook.remove_foreign_backup(disk, table, disk.size // SECTOR - 1)


def nodes(value):
    """All containers and keys in a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from nodes(value[key])


class DisksTest(HookTest):
    def test_serial_number_wins_over_order(self):
        self.machine.add_disk("sdb", 8 * GIB, device__vpd_pg80=page80("QM00001"))
        self.prepare("d-flat-default", device__vpd_pg80=page80("OTHER"))
        self.assert_refused("boot disk sda: curtin wrote the image to /dev/sda")

    def test_what_is_known_of_disks(self):
        self.machine.add_disk("loop0", GIB)
        os.rmdir(os.path.join(self.machine.root, "sys/block/loop0/device"))
        self.machine.add_disk("sr0", GIB, device__type=5)
        self.machine.add_disk("nvme0c0n1", GIB, hidden=1)
        self.machine.add_disk("sdd", 0)
        self.machine.add_disk("nvme0n1", 8 * GIB, device__serial="S1  ", device__model="Fast  ", eui="00 25 38 8a 01 b2 c3 d4",
                              wwid="eui.0025388a01b2c3d4", nguid="00000000-0000-0000-0000-000000000000")
        self.machine.link("nvme-eui.0025388a01b2c3d4", "nvme0n1")
        self.machine.add_disk("sdb", 8 * GIB, device__wwid="naa.6d0946606ab1230027a1b2c30d11aa01")
        self.machine.udev("sdb", "8:16", ID_SERIAL_SHORT="6d0946606ab1230027a1b2c30d11aa01", ID_MODEL="PERC",
                          ID_WWN="0x6d0946606ab12300")
        self.prepare("d-flat-default", device__vpd_pg80=page80("QM00001 "), device__model="QEMU HARDDISK")
        self.assert_deployed()
        disks = {disk["name"]: disk for disk in self.machine.document()["disks"]}
        self.assertEqual(sorted(disks), ["nvme0n1", "sda", "sdb"])
        self.assertEqual(disks["nvme0n1"], {
            "name": "nvme0n1", "path": "/dev/nvme0n1", "size": 8 * GIB, "block_size": 512, "model": "Fast",
            "serial": "S1", "wwid": "eui.0025388a01b2c3d4", "eui": "0025388a01b2c3d4", "nguid": "", "udev": {},
            "by_id": ["nvme-eui.0025388a01b2c3d4"], "maas_id": None})
        self.assertEqual((disks["sda"]["serial"], disks["sda"]["maas_id"]), ("QM00001", "sda"))
        self.assertEqual(disks["sdb"]["udev"], {"ID_SERIAL_SHORT": "6d0946606ab1230027a1b2c30d11aa01",
                                                "ID_WWN": "0x6d0946606ab12300"})

    def test_matching(self):
        """How MAAS names a disk, what Linux says, whether it is the same."""
        nvme = {"path": "/dev/disk/by-id/nvme-eui.0025388a01b2c3d4"}
        for entry, attributes, udev, same in (
                ({"serial": "S45NEX0N100001"}, {"device__vpd_pg80": page80("S45NEX0N100001")}, {}, True),
                ({"serial": "S45NEX0N100001"}, {"device__vpd_pg80": page80("S45NEX0N100001X")}, {}, False),
                ({"serial": "6d09a"}, {"device__vpd_pg80": page80("00c1")}, {"ID_SERIAL_SHORT": "6d09a"}, True),
                ({"serial": "6d09a"}, {"device__vpd_pg80": page80("00c1"), "device__wwid": "naa.6d09a"}, {}, True),
                ({"serial": "A B"}, {"device__vpd_pg80": page80("A_B")}, {}, True),
                (nvme, {}, {}, True),
                ({"path": "/dev/sda"}, {}, {}, True),
                ({"path": "/dev/sdb"}, {}, {}, False),
                ({"path": "/dev/disk/by-id/gone"}, {}, {}, False),
                ({}, {}, {}, False)):
            with self.subTest(entry=entry, udev=udev):
                self.fresh()
                self.machine.link("nvme-eui.0025388a01b2c3d4", "sda")
                self.machine.add_disk("sda", 64 * GIB, **attributes)
                self.machine.udev("sda", "8:0", **udev)
                config = {"storage": {"config": [dict(entry, type="disk", id="boot")]}}
                with contextlib.redirect_stdout(io.StringIO()):
                    disks = hook.list_disks(config, self.machine.root)
                self.assertEqual(disks[0]["maas_id"], "boot" if same else None)

    def test_ambiguous_disks_match_nothing(self):
        for name in ("sda", "sdb"):
            self.machine.add_disk(name, GIB, device__vpd_pg80=page80("SAME"))
        config = {"storage": {"config": [{"type": "disk", "id": "x", "serial": "SAME"}]}}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            disks = hook.list_disks(config, self.machine.root)
        self.assertEqual([disk["maas_id"] for disk in disks], [None, None])
        self.assertIn("MAAS's x: 2 fit", out.getvalue())

    def test_disk_that_two_entries_mean(self):
        self.machine.add_disk("sda", GIB, device__vpd_pg80=page80("SAME"))
        config = {"storage": {"config": [{"type": "disk", "id": "x", "serial": "SAME"},
                                         {"type": "disk", "id": "y", "path": "/dev/sda"}]}}
        with contextlib.redirect_stdout(io.StringIO()):
            disks = hook.list_disks(config, self.machine.root)
        self.assertIsNone(disks[0]["maas_id"])

    def test_written_to_another_disk_than_maas_boots(self):
        """curtin takes the first disk by name when the boot disk's entry has no serial."""
        config = load_config("g-nvme-two-disks-no-serial")
        for entry in config["storage"]["config"]:
            if entry["type"] == "disk":
                entry.pop("grub_device", None)
            if entry["id"] == "nvme1n1":
                entry["grub_device"] = True
        self.machine.add_disk("nvme1n1", 8 * GIB)
        self.prepare(config, disk="nvme0n1")
        status, _, reason = self.run_hook()
        self.assertEqual(status, 1)
        self.assertIn("boot disk nvme1n1: curtin wrote the image to /dev/nvme0n1", reason)


class FailureTest(HookTest):
    """Whatever fails: nothing stays mounted, no credentials stay, the reason comes last."""

    def log(self):
        with open(os.path.join(self.machine.directory, "log")) as f:
            return [line.split()[0] for line in f]

    def test_bank_cannot_be_mounted(self):
        self.prepare()
        self.machine.flag("mount-fails")
        self.assert_refused("failed with status 32: wrong fs type")

    def test_bank_cannot_be_unmounted(self):
        for bank in ("sda5", "sda6"):
            with self.subTest(bank):
                self.fresh()
                self.prepare()
                self.machine.flag("umount-fails", bank)
                status, _, reason = self.run_hook()
                self.assertEqual(status, 1)
                self.assertIn("failed with status 32: target is busy", reason)

    def test_bank_cannot_be_written(self):
        self.prepare()
        self.machine.flag("bank-is-full")
        status, _, reason = self.run_hook()
        self.assertEqual(status, 1)
        self.assertIn("cannot write to the second boot bank", reason)
        self.assertEqual(self.log().count("mount"), self.log().count("umount"))

    def test_write_that_stops_short(self):
        """A file system that has no more room takes a part of the data, without an error."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with self.assertRaisesRegex(hook.HookError, "cannot write to the second boot bank"):
                hook.write_state(os.path.join(self.machine.temporary, "esxid"), {"agent.py": bytes(1001)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def test_half_written_state_is_removed(self):
        self.prepare()
        with unittest.mock.patch.object(hook, "sync_directory", side_effect=OSError(28, "No space left on device")):
            with contextlib.suppress(hook.HookError), contextlib.redirect_stdout(io.StringIO()):
                hook.store(self.machine.node("sda6"), {"secret": 1}, {"agent.py": b""})
        self.assertIsNone(self.machine.stored())

    def test_first_cause_is_last(self):
        self.prepare()
        self.machine.flag("umount-fails", "sda6")
        self.machine.flag("bank-is-full")
        with unittest.mock.patch.object(hook, "erase", side_effect=broken):
            with self.assertRaisesRegex(AssertionError, "credentials were left behind"):
                self.run_hook()
        self.assertEqual([line.partition(": error: ")[2].split()[0:2] for line in self.errors],
                         [["cannot", "remove"], ["umount", self.errors[1].split()[3]], ["cannot", "write"]])

    def test_defect_before_a_failing_clean_up(self):
        self.prepare()
        with unittest.mock.patch.object(hook, "erase", side_effect=broken), \
                unittest.mock.patch.object(hook, "list_disks", side_effect=KeyError("x")):
            with self.assertRaises(AssertionError):
                self.run_hook()
        self.assertEqual(self.errors[-1], "esxid: error: unexpected KeyError: 'x'")
        self.assertEqual(len(self.errors), 2)

    def test_stopped_by_a_signal(self):
        self.prepare()
        self.machine.program("sgdisk", "#!/bin/sh\nkill -TERM $PPID\nsleep 1\n")
        script = ("import os, sys, machine\nhook = machine.load_hook()\nfinish = hook.finish\n"
                  "hook.finish = lambda environ: finish(environ, sys.argv[1])\nsys.exit(hook.main())")
        p = subprocess.Popen([sys.executable, "-B", "-c", script, self.machine.root], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, cwd=os.path.dirname(os.path.abspath(__file__)))
        err = p.communicate()[1].decode()
        self.assertEqual((p.returncode, err.splitlines()[-1]), (1, "esxid: error: stopped by signal 15"))
        self.assertFalse(os.path.exists(os.path.join(self.machine.target, "root")))

    def test_outside_of_curtin(self):
        environ = {k: v for k, v in os.environ.items() if k != "TARGET_MOUNT_POINT"}
        p = subprocess.Popen([sys.executable, "-B", os.path.join(self.machine.target, "curtin/curtin-hooks")],
                             env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        err = p.communicate()[1].decode()
        self.assertEqual(p.returncode, 1)
        self.assertEqual(err.strip(), "esxid: error: TARGET_MOUNT_POINT is not set: this program is started by curtin")

    def test_defect_of_the_hook(self):
        self.prepare()
        err = io.StringIO()
        with unittest.mock.patch.object(hook, "finish", side_effect=KeyError("x")), contextlib.redirect_stderr(err):
            self.assertEqual(hook.main(), 1)
        self.assertEqual(err.getvalue().splitlines()[-1], "esxid: error: unexpected KeyError: 'x'")


if __name__ == "__main__":
    unittest.main()
