"""What curtin does after dd, in the virtual machine that stands for MAAS's ephemeral Ubuntu.

    python3 ephemeral.py JOB

JOB is a JSON file: disks, each with serial, name (that it must have, or ""), link
(below /dev/disk/by-id, or "") and eui (whether it has an EUI-64); target (serial of the disk written to); config
(curtin's configuration); runs (how often the hook runs: 1). Prints the
installation log; exits with 3 where curtin's install does.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

SEARCHED = ["curtin", "system-data/var/lib/snapd", "snaps"]


class InstallError(Exception):
    pass


def main(path):
    with open(path) as f:
        job = json.load(f)
    if any(disk["eui"] or disk["name"] and device_of(disk["serial"]) != disk["name"] for disk in job["disks"]):
        renumber_nvme([disk["serial"] for disk in job["disks"]])
    make_links(job["disks"])
    target = "/dev/" + device_of(job["target"])
    try:
        log = ""
        for _ in range(job["runs"]):
            log = install(job["config"], target, log)
    except InstallError as e:
        say("install failed: {}".format(e))
        return 3
    for flag in ("-p", "-v"):
        say(subprocess.check_output(["sgdisk", flag, target], stderr=subprocess.STDOUT).decode())
    return 0


def say(text):
    print("curtin: " + text.rstrip("\n"), flush=True)


def device_of(serial):
    """The kernel's name of the disk with a serial number. Disks are probed side by side,
    so it is not always the same."""
    for device in os.listdir("/sys/block"):
        if serial in (serial_of(device, "serial"), serial_of(device, "vpd_pg80")[4:]):
            return device
    raise InstallError("no disk has the serial number {}".format(serial))


def serial_of(device, attribute):
    try:
        with open(os.path.join("/sys/block", device, "device", attribute), encoding="latin-1") as f:
            return f.read().strip(" \n")
    except OSError:
        return ""


def renumber_nvme(serials):
    """Has the driver take the NVMe controllers one after the other, in this order.

    It ignores the EUI-64 of QEMU's (1b36:0010), which was wrong in old versions, unless told of
    the device in another way: as one without quirks of that class."""
    driver = "/sys/bus/pci/drivers/nvme"
    write_file(os.path.join(driver, "new_id"), "1b36 0010 ffffffff ffffffff 010802 ffffff 0")
    controllers = {read("/sys/class/nvme", name, "serial"): read("/sys/class/nvme", name, "address")
                   for name in os.listdir("/sys/class/nvme")}
    serials = [serial for serial in serials if serial in controllers]
    for address in controllers.values():
        write_file(os.path.join(driver, "unbind"), address)
    for serial in serials:
        write_file(os.path.join(driver, "bind"), controllers[serial])
    deadline = time.monotonic() + 30
    for n in range(len(serials)):
        while not os.path.exists("/dev/nvme{}n1".format(n)) and time.monotonic() < deadline:
            time.sleep(0.01)  # there is no udev to tell


def make_links(disks):
    """What udev does in the real system."""
    os.makedirs("/dev/disk/by-id", exist_ok=True)
    for disk in disks:
        if disk["link"]:
            os.symlink("../../" + device_of(disk["serial"]), os.path.join("/dev/disk/by-id", disk["link"]))


def install(config, disk, log):
    run("partprobe", disk)
    partition = find_root(disk)
    say("hook found on partition {}".format(read("/sys/class/block", os.path.basename(partition), "partition")))
    work = tempfile.mkdtemp(prefix="curtin-")
    target = os.path.join(work, "target")
    os.mkdir(target)
    run("mount", partition, target)
    try:
        extract(config, target)
        return log + run_hooks(config, work, target)
    finally:
        write_file(os.path.join(target, "root/curtin-install.log"), log or "(log)\n")
        run("umount", "--recursive", target)


def find_root(disk):
    """Mounts every partition; the last one with one of the directories wins."""
    found, place = None, tempfile.mkdtemp(prefix="curtin-")
    listing = subprocess.check_output(["lsblk", "-n", "-l", "-p", "-o", "NAME,TYPE", disk]).decode()
    for name in [line.split()[0] for line in listing.splitlines() if line.split()[1] == "part"]:
        if subprocess.call(["mount", name, place], stderr=subprocess.DEVNULL) != 0:
            continue
        if any(os.path.isdir(os.path.join(place, path)) for path in SEARCHED):
            found = name
        run("umount", place)
    if found is None:
        raise InstallError("Did not find any filesystem on ['{}'] that contained one of {}".format(disk, SEARCHED))
    return found


def extract(config, target):
    """write_files, with curtin's own entry: the whole configuration (JSON is YAML too)."""
    files = dict(config.get("write_files", {}))
    files["curtin_install_cfg"] = {"path": "/root/curtin-install-cfg.yaml", "permissions": "0400",
                                   "content": json.dumps(config)}
    for entry in files.values():
        path = os.path.join(target, entry["path"].lstrip("/"))
        write_file(path, entry["content"])
        os.chmod(path, int(entry.get("permissions", "0644"), 8))


def run_hooks(config, work, target):
    state = os.path.join(work, "state")
    os.mkdir(state)
    write_file(os.path.join(state, "config"), json.dumps(config))
    environ = dict(os.environ, TARGET_MOUNT_POINT=target, WORKING_DIR=work, CONFIG=os.path.join(state, "config"),
                   CURTIN_REPORTSTACK="cmd-install/stage-curthooks/builtin/cmd-curthooks")
    for name in ("FSTAB", "INTERFACES", "NETWORK_CONFIG", "NETWORK_STATE"):
        environ["OUTPUT_" + name] = os.path.join(state, name.lower())
    log = ""
    for name in ("curtin/curtin-hooks", "curtin/finalize"):
        path = os.path.join(target, name)
        if os.path.isfile(path):
            log += run_hook(path, environ)
    if not log:
        raise InstallError("no hook: curtin would take the target for a Linux system")
    return log


def run_hook(path, environ):
    p = subprocess.Popen([path], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = p.communicate()[0].decode("utf-8", "replace")
    print(log, end="", flush=True)
    if p.returncode != 0:
        raise InstallError("{} exited with {}".format([path], p.returncode))
    return log


def write_file(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read().strip()


def run(*argv):
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out = p.communicate()[0].decode("utf-8", "replace").strip()
    if p.returncode != 0:
        raise InstallError("{}: exit status {}: {}".format(" ".join(argv), p.returncode, out))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
