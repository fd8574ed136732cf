"""vendor-data, MAAS's own wishes for a machine: NTP servers, files, and the vCenter to join.

It is a YAML map whose key cloud-init holds cloud-config as text. read checks all
of it before anything is changed. Files go below /altbootbank/maas only, where
MAAS wants its vCenter file: ESXi neither runs nor reads anything there, and the
boot bank above it has what the host boots from. What is for Linux is left out,
with a note; all else that cannot be done is an error.
"""

import binascii
import os
import re
import zlib

import cloudconfig
import ntp
import vcenter
from host import AgentError

ROOT = "/"  # tests have another
PREFIX = "/altbootbank/maas/"
# MAAS starts its hardware sync with files of systemd.
LINUX = re.compile(r"/(usr/)?(lib|etc)/systemd/")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # of a file or directory; no special ones of FAT
MAX_DEPTH = 4           # names below PREFIX
MAX_FILES = 16
MAX_FILE = 64 << 10     # bytes
MAX_FILES_SIZE = 256 << 10


class Wishes:
    def __init__(self):
        self.servers = []    # of NTP
        self.files = []      # (path, bytes)
        self.vcenter = None  # vcenter.Settings
        self.notes = []      # what is left out

    def lines(self):
        """The plan, for the log."""
        lines = ["note: {} in vendor-data is not for ESXi and left out".format(what) for what in self.notes]
        if self.servers:
            lines.append("plan: NTP from {}".format(", ".join(self.servers)))
        lines += ["plan: write {}, {} bytes".format(path, len(data)) for path, data in self.files]
        if self.vcenter:
            lines.append("plan: join {}".format(self.vcenter))
        return lines

    def apply(self, host, version):
        """All but vCenter, which needs the host as it will be."""
        if self.servers:
            ntp.configure(host, self.servers, version)
        for path, data in self.files:
            write(path, data, host.journal)

    def summary(self):
        """What was done that not every host has, for MAAS's event."""
        text = ", NTP" if self.servers else ""
        text += "".join(", " + path for path, _ in self.files)
        text += ", {}".format(self.vcenter) if self.vcenter else ""
        text += "; left out, because it is not for ESXi: " + ", ".join(self.notes) if self.notes else ""
        return text


def read(text, ca, journal):
    """The Wishes in vendor-data; "" if MAAS has none. ca are the image's authorities for vCenter, in PEM."""
    wishes = Wishes()
    if not text.strip():
        return wishes
    outer = parse(text, "vendor-data")
    config = outer.get("cloud-init")
    if not isinstance(config, str) or not re.match(r"#cloud-config[ \t]*(\n|$)", config):
        raise AgentError("MAAS's vendor-data has no cloud-config under cloud-init")
    wishes.notes += [key for key in sorted(outer) if key != "cloud-init"]
    for key, value in sorted(parse(config, "the cloud-config in vendor-data").items()):
        if key == "ntp":
            wishes.servers = ntp.read(value)
        elif key == "write_files":
            read_files(value, wishes)
        else:
            wishes.notes.append(key)
    if wishes.vcenter:
        wishes.vcenter.ca = ca
        journal.hide(wishes.vcenter.password)
    return wishes


def parse(text, what):
    try:
        value = cloudconfig.read(text)
    except cloudconfig.YAMLError as e:
        raise AgentError("cannot read {} from MAAS: {}".format(what, e))
    if value is not None and not isinstance(value, dict):
        raise AgentError("cannot read {} from MAAS: it is no map".format(what))
    return value or {}


def read_files(entries, wishes):
    if not isinstance(entries, list) or len(entries) > MAX_FILES:
        raise AgentError("write_files is no list of up to {} files".format(MAX_FILES))
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise AgentError("write_files has an entry without a path")
        path = entry["path"]
        if LINUX.match(path):
            wishes.notes.append("{!r} of write_files".format(path[:200]))
            continue
        check_path(path)
        data = content(entry)
        if path == vcenter.FILE:
            wishes.vcenter = vcenter.read(parse(decode(data, path), path))  # it is never written
        elif path.lower() in (other.lower() for other, _ in wishes.files):  # FAT does not tell them apart
            raise AgentError("write_files: {} is there twice".format(path))
        else:
            wishes.files.append((path, data))
    if sum(len(data) for _, data in wishes.files) > MAX_FILES_SIZE:
        raise AgentError("write_files: more than {} bytes together".format(MAX_FILES_SIZE))


def check_path(path):
    names = path[len(PREFIX):].split("/")
    if not path.startswith(PREFIX):
        raise AgentError("write_files: {!r} is not below {}, where esxid writes files".format(path[:200], PREFIX))
    if len(names) > MAX_DEPTH or not all(NAME.fullmatch(name) for name in names):
        raise AgentError("write_files: {!r} is no path that esxid writes to: up to {} names of letters, digits, -, _ "
                         "and .".format(path[:200], MAX_DEPTH))


def content(entry):
    """The bytes of a file, out of its encoding."""
    def fail(why):
        raise AgentError("write_files: {}: {}".format(entry["path"], why))

    for key in sorted(entry):
        if key not in ("path", "content", "encoding", "permissions", "owner"):
            fail("{!r} is not supported".format(key[:50]))
    if entry.get("owner") not in (None, "root", "root:root"):
        fail("there is no owner but root")
    # FAT keeps none; what asks for more than reading, writing and running is a mistake.
    permissions = entry.get("permissions") or "0644"
    if not isinstance(permissions, str) or not re.fullmatch("0?[0-7]{3}", permissions):
        fail("the permissions are not like '0644'")
    text = entry.get("content") or ""
    if not isinstance(text, str):
        fail("its content is no text")
    encoding = entry.get("encoding") or "text/plain"
    if encoding == "text/plain":
        data = text.encode("utf-8")
    elif encoding in ("b64", "base64", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"):
        data = unpack_base64("".join(text.split()), fail)
        if encoding.startswith("gz"):
            data = unpack_gzip(data, fail)
    else:
        fail("the encoding is none of text/plain, b64 and gz+b64")
    if len(data) > MAX_FILE:
        fail("more than {} bytes".format(MAX_FILE))
    return data


def unpack_base64(text, fail):
    if len(text) % 4 or not re.fullmatch("[A-Za-z0-9+/]*={0,2}", text):
        fail("its content is not base64")
    return binascii.a2b_base64(text)


def unpack_gzip(data, fail):
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(data, MAX_FILE + 1)
    except zlib.error:
        fail("its content is not gzip")
    if len(unpacked) <= MAX_FILE and (not unpacker.eof or unpacker.unused_data):
        fail("its content is not one whole gzip file")
    return unpacked


def decode(data, path):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise AgentError("write_files: {} is not UTF-8".format(path))


def write(path, data, journal):
    """Writes a file, all of it or nothing, and reads it back."""
    place = os.path.join(ROOT, path[1:])
    try:
        for directory in parents(path):
            refuse_link(directory)
            if not os.path.isdir(directory):
                os.mkdir(directory)
        refuse_link(place)
        with open(place + ".esxid", "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.rename(place + ".esxid", place)
        with open(place, "rb") as f:
            same = f.read(len(data) + 1) == data
    except OSError as e:
        raise AgentError("cannot write {}: {}".format(path, e.strerror or e))
    if not same:
        raise AgentError("{} does not hold what was written to it".format(path))
    journal.say("wrote {}, {} bytes".format(path, len(data)))


def parents(path):
    """The directories of a path below the boot bank, from above."""
    names = path.split("/")[2:-1]
    bank = os.path.join(ROOT, path.split("/")[1])
    return [os.path.join(bank, *names[:n]) for n in range(1, len(names) + 1)]


def refuse_link(place):
    if os.path.islink(place):
        raise AgentError("write_files: {} is a link".format(place))
