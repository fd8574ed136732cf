"""A machine in MAAS's ephemeral Ubuntu right after curtin wrote the image: made of files.

It has /proc, /sys, /dev and /run below a directory, a sparse file for each disk,
and mount and umount programs that copy a boot bank's files in and out.
"""

import importlib.machinery
import importlib.util
import json
import os
import shutil
import struct
import sys
import uuid
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
PAYLOAD = os.path.join(HERE, "..", "payload", "curtin")
CONFIGS = os.path.join(HERE, "..", "testdata", "curtin")

SECTOR = 512
GIB = 1 << 30
# {number: (first, last)} and the size of the disk the image was made on
LAYOUT_6 = ({1: (64, 8191), 5: (8224, 520191), 6: (520224, 1032191), 7: (1032224, 1257471),
             8: (1257504, 1843199), 9: (1843200, 7086079), 2: (7086080, 15472639)}, 32 * GIB)
LAYOUT_7 = ({1: (64, 204863), 5: (208896, 8595455), 6: (8597504, 16984063), 7: (16986112, 67108830)}, 32 * GIB)
BOOT_CFG = b"bootstate=0\ntitle=Loading VMware ESXi\nbuild=8.0.3-0.35.24677879\nupdated=1\n"

MOUNT = """#!/bin/sh
echo "mount $*" >>"$FAKE/log"
if [ -e "$FAKE/mount-fails" ]; then echo "wrong fs type"; exit 32; fi
cp -a "$FAKE/banks/${5##*/}/." "$6" && echo "$5" >"$FAKE/mounted"
if [ -e "$FAKE/bank-is-full" ]; then mkdir -p "$6/esxid/config.json"; fi
"""
UMOUNT = """#!/bin/sh
echo "umount $*" >>"$FAKE/log"
bank="$FAKE/banks/$(sed 's|.*/||' "$FAKE/mounted")"
rm -rf "$bank" && mkdir "$bank" && cp -a "$1/." "$bank" && find "$1" -mindepth 1 -delete
if [ "${bank##*/}" = "$(cat "$FAKE/umount-fails" 2>/dev/null)" ]; then echo "target is busy"; exit 32; fi
"""

# sgdisk waits a second after each write, so that most tests use this one.
SGDISK = """#!/bin/sh
echo "No problems found."
[ "$1" = --verify ] || exec {python} -B {machine} "$2"
"""


def load_hook():
    """The hook as a module; its file has no suffix."""
    loader = importlib.machinery.SourceFileLoader("curtin_hooks", os.path.join(PAYLOAD, "curtin-hooks"))
    spec = importlib.util.spec_from_loader("curtin_hooks", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def load_config(name):
    with open(os.path.join(CONFIGS, name + ".json")) as f:
        return json.load(f)


def write_table(f, partitions, lba, alternate, guid=None):
    """A GPT header with its entries (UEFI 2.10, 5.3); the primary one with its protective MBR."""
    entries = bytearray(128 * 128)
    for number, (first, last) in partitions.items():
        struct.pack_into("<16s16sQQ", entries, (number - 1) * 128, b"some type GUID..", uuid.uuid4().bytes, first, last)
    start, last = (2, alternate) if lba == 1 else (lba - 32, lba)
    write_header(f, bytes(entries), lba, alternate, guid or uuid.uuid4().bytes, start, last - 33)
    if lba == 1:
        f.seek(446)
        f.write(struct.pack("<4sB3sII", b"\0\0\2\0", 0xee, b"\xff" * 3, 1, min(last, 0xffffffff)))
        f.seek(510)
        f.write(b"\x55\xaa")


def write_header(f, entries, lba, alternate, guid, start, last_usable):
    header = bytearray(struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, lba, alternate, 34, last_usable,
                                   guid, start, 128, 128, zlib.crc32(entries)))
    struct.pack_into("<I", header, 16, zlib.crc32(bytes(header)))
    f.seek(lba * SECTOR)
    f.write(header + bytes(SECTOR - len(header)))
    f.seek(start * SECTOR)
    f.write(entries)


def move_backup(path):
    """What sgdisk --move-second-header does."""
    last = os.path.getsize(path) // SECTOR - 1
    with open(path, "r+b") as f:
        f.seek(SECTOR + 56)
        guid = f.read(16)
        f.seek(2 * SECTOR)
        entries = f.read(128 * 128)
        write_header(f, entries, 1, last, guid, 2, last - 33)
        write_header(f, entries, last, 1, guid, last - 32, last - 33)


class Machine:
    def __init__(self, directory):
        self.directory = directory
        self.root = os.path.join(directory, "root")
        self.target = os.path.join(directory, "target mount")  # with a blank, as \040 in /proc/mounts
        self.temporary = os.path.join(directory, "tmp")
        self.config_path = os.path.join(directory, "config.json")
        for name in ("proc", "sys/block", "sys/class/block", "dev/disk/by-id", "run/udev/data"):
            os.makedirs(os.path.join(self.root, name))
        for name in ("bin", "banks", "tmp"):
            os.mkdir(os.path.join(directory, name))
        self.program("mount", MOUNT)
        self.program("umount", UMOUNT)
        self.program("sgdisk", SGDISK.format(python=sys.executable, machine=os.path.abspath(__file__)))
        shutil.copytree(PAYLOAD, os.path.join(self.target, "curtin"))
        self.write(os.path.join(self.target, "curtin/esxid.json"), b'{"unsupported": "error"}')
        self.write(os.path.join(self.target, "root/curtin-install-cfg.yaml"), b"token_secret: SECRET\n")

    def environ(self):
        return {"PATH": os.path.join(self.directory, "bin") + ":" + os.environ["PATH"], "FAKE": self.directory,
                "TMPDIR": self.temporary, "TARGET_MOUNT_POINT": self.target, "CONFIG": self.config_path}

    def program(self, name, text):
        path = os.path.join(self.directory, "bin", name)
        self.write(path, text.encode())
        os.chmod(path, 0o755)

    def flag(self, name, value=""):
        self.write(os.path.join(self.directory, name), value.encode())

    def write(self, path, data):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)

    def configure(self, config):
        self.write(self.config_path, json.dumps(config).encode())

    def attribute(self, device, name, value):
        data = value if isinstance(value, bytes) else str(value).encode() + b"\n"
        self.write(os.path.join(self.root, "sys/block", device, name), data)

    def add_disk(self, name, size, **attributes):
        """A blank disk. attributes: sysfs attributes, with __ for /."""
        real = os.path.join(self.root, "sys/devices/pci0000:00", name)
        os.makedirs(os.path.join(real, "device"))
        os.symlink(real, os.path.join(self.root, "sys/block", name))
        os.symlink(real, os.path.join(self.root, "sys/class/block", name))
        self.attribute(name, "size", size // SECTOR)
        self.attribute(name, "queue/logical_block_size", SECTOR)
        for key, value in attributes.items():
            self.attribute(name, key.replace("__", "/"), value)
        with open(self.node(name), "wb") as f:
            f.truncate(size)

    def node(self, name):
        return os.path.join(self.root, "dev", name)

    def deploy(self, name, layout=LAYOUT_7, mounted=1):
        """Writes an image to a disk, without a backup GPT as esxid's images are, and mounts its partition."""
        partitions, made_on = layout
        with open(self.node(name), "r+b") as f:
            write_table(f, partitions, 1, made_on // SECTOR - 1)
            for number in (5, 6):
                f.seek((partitions[number][0] + 1) * SECTOR)
                f.write(b"VMWARE FAT16    " + bytes(16))
        separator = "p" if name[-1].isdigit() else ""
        for number, (first, last) in partitions.items():
            self.add_partition(name, name + separator + str(number), number, first, last)
        self.write(os.path.join(self.directory, "banks", name + separator + "5", "boot.cfg"), BOOT_CFG)
        os.makedirs(os.path.join(self.directory, "banks", name + separator + "6"))
        self.bank2 = os.path.join(self.directory, "banks", name + separator + "6")
        self.mount("/dev/" + name + separator + str(mounted))

    def add_partition(self, disk, name, number, first, last):
        real = os.path.realpath(os.path.join(self.root, "sys/block", disk))
        for key, value in (("partition", number), ("start", first), ("size", last - first + 1)):
            self.attribute(disk, name + "/" + key, value)
        os.symlink(os.path.join(real, name), os.path.join(self.root, "sys/class/block", name))
        self.write(self.node(name), b"")

    def mount(self, device):
        """/proc/mounts, with another disk mounted before at the same place."""
        place = self.target.replace(" ", "\\040")
        self.write(os.path.join(self.root, "proc/mounts"), "".join(
            "{} {} vfat rw 0 0\n".format(*line) for line in (
                ("/dev/root", "/"), ("/dev/elsewhere1", place), (device, place), ("/dev/sdz1", "/mnt"))).encode())

    def link(self, name, device):
        os.symlink("../../" + device, os.path.join(self.root, "dev/disk/by-id", name))

    def udev(self, device, number, **properties):
        self.attribute(device, "dev", number)
        lines = ["S:disk/by-id/x", "G:systemd"] + ["E:{}={}".format(*p) for p in sorted(properties.items())]
        self.write(os.path.join(self.root, "run/udev/data", "b" + number), "\n".join(lines).encode())

    def stored(self):
        """What the hook left on the second boot bank: {name: bytes}, None if nothing."""
        state = os.path.join(self.bank2, "esxid")
        if not os.path.exists(state):
            return None
        files = {}
        for name in os.listdir(state):
            with open(os.path.join(state, name), "rb") as f:
                files[name] = f.read()
        return files

    def document(self):
        return json.loads(self.stored()["config.json"].decode())


if __name__ == "__main__":
    move_backup(sys.argv[1])
