"""Configures an ESXi host on its first boot as MAAS wants it.

Started by the image's %firstboot script with the directory on the boot bank
where the deployment left config.json and this program:

    python -B agent.py /altbootbank/esxid

First everything is read and the whole plan is made; what cannot be done is
refused there, while the host still has the network it was installed with.
Then the plan is carried out. Whatever fails up to the moment when MAAS has the
machine as Deployed, the old network is brought back and MAAS is told why. In
any case the credentials and this program are removed; only firstboot.log stays.
The owner's script, user-data, runs after all that.

If this program is killed, the script starts it a second time. It does not go on
then, unless nothing was changed yet: it brings the old network back and fails.

Python 3.5 and the part of its standard library that ESXi ships.
"""

import json
import os
import signal
import sys

import firewall
import identity
import maas
import netconfig
import network
import storage
import userdata
import vcenter
import vendordata
from host import AgentError, Deadline, Host, apply, parse_fields
from journal import Journal
from restore import Record, restore

LOG, CONFIG, RECORD = "firstboot.log", "config.json", "network.json"
MAX_CONFIG = 8 << 20    # bytes
# MAAS gives up on a machine half an hour after curtin's last event; starting up takes a part of it.
WORK = 15 * 60          # seconds for the configuration
LAST_WORDS = 5 * 60     # seconds for the old network and the reason, if that fails
CLOSING = 2 * 60        # seconds for the firewall and to save /etc
EVENT = "esxid-firstboot"
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
USER_DATA_EVENT = EVENT + "/user-data"  # with a slash: it does not decide about the deployment


def main(directory):
    journal = Journal(os.path.join(directory, LOG))
    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        last = configure(directory, journal)
        journal.say("this host is configured, and MAAS knows")
    except Exception as e:
        if not isinstance(e, AgentError):
            journal.trace()
        journal.say("failed: {}".format(text_of(e)))
        return 1
    finally:
        ignore_signals()
        clean_up(directory, journal)
    last()
    return 0


def ignore_signals():
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def stop(number, frame):
    """Turns a signal into an error, so that what was done is undone."""
    ignore_signals()
    raise AgentError("stopped by signal {}".format(number))


def configure(directory, journal):
    """Configures the host. Returns what is to be done when nothing of this program is left on it."""
    host = Host(journal, Deadline(WORK))
    document = read_document(os.path.join(directory, CONFIG))
    client = maas.Client(document["reporting"], journal, host.deadline)
    record = Record(os.path.join(directory, RECORD))
    try:
        with firewall.outbound(host, client.port):
            try:
                if record.interrupted:
                    raise AgentError("the configuration was interrupted and is not resumed: deploy the machine again")
                script = deploy(host, document, client, record, journal)
            except Exception as e:
                fail(host, client, record, e, journal)
                raise
            finally:
                host.deadline.renew(CLOSING)
    finally:
        save(host, journal)
        host.deadline.renew(CLOSING)
        if vcenter.remove_traces(host):  # of a run that was killed, or that had no time left for it
            save(host, journal)
    return lambda: run_user_data(host, client, script, journal)


def deploy(host, document, client, record, journal):
    host.wait_for_hostd()
    before = network.State(host)
    before.check()
    record.state = before
    for text in document.get("ignored") or []:
        journal.say("not supported and ignored: {}".format(text))
    wanted = netconfig.read(document["network"], bool(document.get("ignored")))
    steps = network.plan(wanted, before)
    version = read_version(host)
    disks = storage.plan(document.get("storage") or {}, document.get("disks") or [], document.get("boot_disk"),
                         storage.State(host, version), wanted.notes)
    for text in wanted.notes:
        journal.say("note: " + text)
    for step in steps + disks:
        journal.say("plan: {}".format(step))
    record.write(before)
    network.establish(host, wanted, steps, journal)
    client.report("start", EVENT, "configuring ESXi")
    keys = client.fetch("public-keys")
    name = identity.read_name(client.fetch("local-hostname"))
    wishes = vendordata.read(client.fetch("vendor-data"), document.get("vcenter_ca"), journal)
    for text in wishes.lines():
        journal.say(text)
    centre = reach_vcenter(host, wishes, client, name)
    apply(host, disks)
    identity.add_keys(keys, version, journal)
    identity.renew_uuid(host, version, journal)
    identity.set_name(host, name)
    wishes.apply(host, version)
    if centre:
        vcenter.join(host, centre, name)
    host.run("auto-backup.sh")  # /etc lives in memory
    client.report("finish", EVENT, "configured: network, datastores, name, SSH keys" + wishes.summary(), "SUCCESS")
    record.forget()
    script = client.fetch_user_data()
    record.final = True  # MAAS has the machine as Deployed: what fails now undoes nothing
    return script


def reach_vcenter(host, wishes, client, name):
    """A client of the vCenter that is to take this host, None without one."""
    if not wishes.vcenter:
        return None
    firewall.open_ports(host, client.port, vcenter.PORT)
    centre = vcenter.Client(wishes.vcenter, host)
    vcenter.check(centre, name)
    return centre


def run_user_data(host, client, script, journal):
    if not script:
        return
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # also for the script
    text, result = "user-data was run", "SUCCESS"
    try:
        userdata.run(script, journal)
    except Exception as e:
        text, result = text_of(e), "FAIL"
    journal.say(text)
    host.deadline.renew(LAST_WORDS)
    try:
        with firewall.outbound(host, client.port):
            client.report("finish", USER_DATA_EVENT, text, result, 2 * 60)
    except AgentError as e:
        journal.say("cannot tell MAAS: {}".format(e))
    save(host, journal)  # what the script has changed


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
    if not isinstance(document, dict) or document.get("format") != 1:
        raise AgentError("cannot read {}: it has not format 1".format(path))
    if not isinstance(document.get("reporting"), dict):
        raise AgentError("cannot read {}: it does not say where MAAS is".format(path))
    return document


# Failure.

def fail(host, client, record, error, journal):
    """Brings the old network back and turns the deployment into a failed one in MAAS.

    MAAS is told before the network changes if it has answered over this one."""
    reason = text_of(error)
    journal.say("cannot go on: {}".format(reason))
    host.deadline.renew(LAST_WORDS)
    told = client.reached and tell(client, reason, 60, journal)
    problem = old_network(host, record, journal)
    if problem:
        reason = "{}; the old network is not back: {}".format(reason, problem)
        journal.say("the old network is not back: {}".format(problem))
    if problem or not told:
        tell(client, reason, 4 * 60, journal)


def old_network(host, record, journal):
    """Why the network is not the old one, "" if it is."""
    if record.final:
        return ""
    changed = record.state is not None
    try:
        if not changed:  # but vmk0 may still have the image's MAC address
            record.state = network.State(host)
            record.state.check()
        return restore(host, record.state, journal)
    except Exception as e:
        if not isinstance(e, AgentError):
            journal.trace()
        return text_of(e) if changed else ""


def tell(client, text, patience, journal):
    """Whether MAAS has taken the reason."""
    try:
        client.report("finish", EVENT, text, "FAIL", patience)
        return True
    except Exception as e:  # what went wrong before matters more
        journal.say("cannot tell MAAS: {}".format(text_of(e)))
        return False


def text_of(error):
    """An error for the operator; one that is not an AgentError is a defect of this program."""
    return str(error) if isinstance(error, AgentError) else "unexpected {}: {}".format(type(error).__name__, error)


# The end.

def save(host, journal):
    """Saves /etc, which lives in memory, without the firewall's opening: a restart finds what is now."""
    for attempt in (1, 2):
        try:
            host.run("auto-backup.sh")
            return
        except AgentError as e:
            journal.say("cannot save the configuration: {}".format(e))


def clean_up(directory, journal):
    """Removes the credentials and the program, and leaves the log."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as e:
        names = []
        journal.say("cannot remove what is in {}: {}".format(directory, e))
    for name in names:
        path = os.path.join(directory, name)
        for work in (overwrite, os.remove) if name == CONFIG else (os.remove,) if name != LOG else ():
            try:
                work(path)
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
