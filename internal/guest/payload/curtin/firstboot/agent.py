"""Configures an ESXi host on its first boot as MAAS wants it.

Started by the image's %firstboot script with the directory on the boot bank
where the deployment left config.json and this program:

    python -B agent.py /altbootbank/esxid

First everything is read and the whole plan is made; what cannot be done is
refused there, while the host still has the network it was installed with.
Then the plan is carried out; if a step fails, the steps before it are undone.
Either way MAAS is told, and the credentials and this program are removed; only
firstboot.log stays.

Python 3.5 and the part of its standard library that ESXi ships.
"""

import json
import os
import sys

import firewall
import identity
import maas
import netconfig
import network
import storage
from host import AgentError, Host, apply, parse_fields, undo
from journal import Journal

MAX_CONFIG = 8 << 20    # bytes
EVENT = "esxid-firstboot"
NOT_YET = "not configured by this version: NTP, vCenter, user-data"


def main(directory):
    journal = Journal(os.path.join(directory, "firstboot.log"))
    try:
        configure(directory, journal)
        journal.say("this host is configured, and MAAS knows")
        return 0
    except AgentError as e:
        journal.say("failed: {}".format(e))
    except Exception as e:  # a defect of this program; the host's operator still needs the reason
        journal.trace()
        journal.say("failed: unexpected {}: {}".format(type(e).__name__, e))
    finally:
        clean_up(directory, journal)
    return 1


def configure(directory, journal):
    host = Host(journal)
    document = read_document(os.path.join(directory, "config.json"))
    client = maas.Client(document["reporting"], journal)
    with firewall.outbound(host, client.port):
        try:
            deploy(host, document, client, journal)
        except Exception as e:
            tell_failure(client, e, journal)
            raise
        client.fetch_user_data()
    host.run("auto-backup.sh")  # once more, without the firewall's opening


def deploy(host, document, client, journal):
    for text in document.get("ignored") or []:
        journal.say("not supported and ignored: {}".format(text))
    wanted = netconfig.read(document["network"], bool(document.get("ignored")))
    steps = network.plan(wanted, network.State(host))
    version = read_version(host)
    disks = storage.plan(document.get("storage") or {}, document.get("disks") or [], document.get("boot_disk"),
                         storage.State(host, version), wanted.notes)
    for text in wanted.notes:
        journal.say("note: " + text)
    for step in steps + disks:
        journal.say("plan: {}".format(step))
    apply(host, steps)
    try:
        client.report("start", EVENT, "configuring ESXi")
    except maas.Unreachable:
        undo(host, steps)  # perhaps the network as it was installed reaches MAAS
        raise
    apply(host, disks)
    identity.add_keys(client.fetch("public-keys"), version, journal)
    identity.renew_uuid(host, version, journal)
    identity.set_name(host, identity.read_name(client.fetch("local-hostname")))
    host.run("auto-backup.sh")  # /etc lives in memory
    client.report("finish", EVENT, "network, datastores, name and SSH keys are configured; " + NOT_YET, "SUCCESS")
    journal.say(NOT_YET)


def read_version(host):
    """(8, 0, 3)"""
    version = parse_fields(host.esxcli("system", "version", "get")).get("Version", "")
    try:
        return tuple(int(part) for part in version.split(".")[:3])
    except ValueError:
        raise AgentError("cannot tell the version of ESXi from {!r}".format(version))


def read_document(path):
    try:
        with open(path, "rb") as f:
            document = json.loads(f.read(MAX_CONFIG).decode("utf-8"))
    except (OSError, ValueError) as e:
        raise AgentError("cannot read {}: {}".format(path, e))
    if document.get("format") != 1:
        raise AgentError("cannot read {}: its format is {!r}, not 1".format(path, document.get("format")))
    return document


def tell_failure(client, error, journal):
    """Turns the deployment into a failed one in MAAS; what went wrong before matters more
    than not getting through with it."""
    try:
        client.report("finish", EVENT, str(error), "FAIL", patience=5 * 60)
    except AgentError as e:
        journal.say("cannot tell MAAS: {}".format(e))


def clean_up(directory, journal):
    """Removes the credentials and the program, and leaves the log."""
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        try:
            if name == "config.json":
                overwrite(path)
            if name != os.path.basename(journal.path):
                os.remove(path)
        except OSError as e:
            journal.say("cannot remove {}: {}".format(path, e))


def overwrite(path):
    """FAT leaves the data of removed files in place."""
    with open(path, "r+b") as f:
        f.write(bytes(os.fstat(f.fileno()).st_size))
        f.flush()
        os.fsync(f.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
