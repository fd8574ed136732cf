"""What makes a host one of its own: FQDN and certificate, system UUID, SSH keys."""

import binascii
import os
import re

from host import AgentError

ROOT = "/"  # tests have another
KEYS = "etc/ssh/keys-root/authorized_keys"
CONFIG = "etc/vmware/esx.conf"
CERTIFICATE = "etc/vmware/ssl/rui.crt"
# What shows the certificate, as far as a version has it. hostd is the last one: esxcli needs it,
# so that nothing goes on before it answers again.
SERVICES = ("etc/init.d/rhttpproxy", "etc/init.d/hostd")
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def path(name):
    return os.path.join(ROOT, name)


def read_name(text):
    name = text.strip().rstrip(".")
    if len(name) > 253 or not re.match("{0}(\\.{0})*$".format(LABEL), name):
        raise AgentError("MAAS's name for this host, {!r}, is not a host name".format(name[:300]))
    return name


def set_name(host, name):
    """Sets the FQDN; then the certificate, which the installation made for localhost.localdomain."""
    known = host.fields(["Fully Qualified Domain Name"], "system", "hostname", "get")
    if known["Fully Qualified Domain Name"] == name and is_certified(name):
        return
    host.esxcli("system", "hostname", "set", "--fqdn=" + name)
    host.run(path("sbin/generate-certificates"))
    for service in SERVICES:
        if os.path.exists(path(service)):
            host.run(path(service), "restart")
    host.wait_for_hostd()


def is_certified(name):
    """Whether the host's certificate has the name in it."""
    try:
        with open(path(CERTIFICATE)) as f:
            text = f.read(1 << 20)
        der = binascii.a2b_base64("".join(re.findall("(?m)^[A-Za-z0-9+/=]+$", text)))
    except (OSError, ValueError):
        return False
    return name.encode("ascii") in der


def renew_uuid(host, version, journal):
    """All hosts deployed from one image have the same system UUID otherwise."""
    if version >= (7, 0, 2):
        journal.say("note: the system UUID is that of the image: ESXi {} keeps it where it cannot be changed safely "
                    "(Broadcom KB 84280)".format(".".join(map(str, version))))
        return
    if is_own(host):
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


def is_own(host):
    """Whether the UUID was made on this machine: it ends with the MAC address of one of its NICs."""
    end = host.esxcli("system", "uuid", "get").strip().rpartition("-")[2].lower()
    return any(row["MAC Address"].replace(":", "").lower() == end
               for row in host.table(["MAC Address"], "network", "nic", "list"))


def add_keys(text, version, journal):
    """Adds the SSH keys of the machine's owner to root's."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    keys = [line for line in lines if re.match(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( |$)", line)]
    if len(keys) < len(lines):
        journal.say("warning: {} of MAAS's {} SSH keys are not of the form TYPE KEY and left out".format(
            len(lines) - len(keys), len(lines)))
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
