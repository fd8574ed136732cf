"""What makes a host known by name: FQDN and certificate, system UUID, SSH keys, NTP."""

import os
import re
import time

from host import AgentError

ROOT = "/"  # tests have another
KEYS = "etc/ssh/keys-root/authorized_keys"
CONFIG = "etc/vmware/esx.conf"
NTP_CONFIG = "etc/ntp.conf"
HOSTD_PATIENCE = 180  # seconds until hostd answers after a restart
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def path(name):
    return os.path.join(ROOT, name)


def read_name(text):
    name = text.strip().rstrip(".")
    if len(name) > 253 or not re.match("{0}(\\.{0})*$".format(LABEL), name):
        raise AgentError("MAAS's name for this host, {!r}, is not a host name".format(name[:300]))
    return name


def set_name(host, name, clock=time):
    """Sets the FQDN; then the certificate, which the installation made for localhost.localdomain."""
    host.esxcli("system", "hostname", "set", "--fqdn=" + name)
    host.run("/sbin/generate-certificates")
    for service in ("hostd", "rhttpproxy"):
        host.run("/etc/init.d/" + service, "restart")
    deadline = clock.monotonic() + HOSTD_PATIENCE
    while True:  # hostd does not tell when it is ready, and esxcli needs it
        try:
            host.esxcli("system", "hostname", "get")
            return
        except AgentError:
            if clock.monotonic() > deadline:
                raise
            clock.sleep(2)


def renew_uuid(host, version, journal):
    """All hosts deployed from one image have the same system UUID otherwise."""
    if version >= (7, 0, 2):
        journal.say("note: the system UUID is that of the image: ESXi {} keeps it where it cannot be changed safely "
                    "(Broadcom KB 84280)".format(".".join(map(str, version))))
        return
    try:
        with open(path(CONFIG)) as f:
            lines = f.readlines()
        with open(path(CONFIG) + ".esxid", "w") as f:
            f.writelines(line for line in lines if not line.startswith("/system/uuid"))
        os.rename(path(CONFIG) + ".esxid", path(CONFIG))
    except OSError as e:
        raise AgentError("cannot renew the system UUID in /{}: {}".format(CONFIG, e))
    journal.say("the system UUID is now " + host.esxcli("system", "uuid", "get").strip())


def add_keys(text, version, journal):
    """Adds the SSH keys of the machine's owner to root's."""
    keys = [line.strip() for line in text.splitlines() if re.match(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( |$)", line.strip())]
    try:
        with open(path(KEYS)) as f:
            known = f.read().splitlines()
    except OSError:
        known = []
    new = [key for key in keys if key not in known]
    if version >= (8,) and any(key.startswith("ssh-ed25519 ") for key in keys):
        journal.say("warning: ESXi 8.0 and later refuse Ed25519 keys: log in with an RSA or ECDSA key")
    if not new:
        return
    try:
        os.makedirs(os.path.dirname(path(KEYS)), exist_ok=True)
        with open(path(KEYS), "w") as f:
            f.write("".join(key + "\n" for key in known + new))
        os.chmod(path(KEYS), 0o600)
    except OSError as e:
        raise AgentError("cannot write /{}: {}".format(KEYS, e))
    journal.say("{} SSH keys were added to root's".format(len(new)))
