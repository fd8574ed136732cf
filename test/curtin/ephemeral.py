"""What curtin does after dd, in the virtual machine that stands for MAAS's ephemeral Ubuntu.

    python3 ephemeral.py JOB

JOB is a JSON file: disk (the device written to), links ({by-id name: device}),
config (curtin's configuration), runs (how often the hook runs: 1). Prints the
installation log; exits with 3 where curtin's install does.
"""

import json
import os
import subprocess
import sys
import tempfile

SEARCHED = ["curtin", "system-data/var/lib/snapd", "snaps"]


class InstallError(Exception):
    pass


def main(path):
    with open(path) as f:
        job = json.load(f)
    make_links(job["links"])
    try:
        log = ""
        for _ in range(job["runs"]):
            log = install(job, log)
    except InstallError as e:
        say("install failed: {}".format(e))
        return 3
    for flag in ("-p", "-v"):
        say(subprocess.check_output(["sgdisk", flag, job["disk"]], stderr=subprocess.STDOUT).decode())
    return 0


def say(text):
    print("curtin: " + text.rstrip("\n"), flush=True)


def make_links(links):
    """What udev does in the real system."""
    os.makedirs("/dev/disk/by-id", exist_ok=True)
    for name, device in links.items():
        os.symlink(device, os.path.join("/dev/disk/by-id", name))


def install(job, log):
    run("partprobe", job["disk"])
    partition = find_root(job["disk"])
    say("hook found on partition {}".format(read("/sys/class/block", os.path.basename(partition), "partition")))
    work = tempfile.mkdtemp(prefix="curtin-")
    target = os.path.join(work, "target")
    os.mkdir(target)
    run("mount", partition, target)
    try:
        extract(job["config"], target)
        return log + run_hooks(job["config"], work, target)
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
