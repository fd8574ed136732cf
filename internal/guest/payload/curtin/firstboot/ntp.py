"""The time service: MAAS's servers, on, and reachable through the firewall.

ESXi 7.0 and later keep it in their configuration (esxcli system ntp); 6.x has
/etc/ntp.conf, which ntpd reads when it starts.
"""

import os
import re

from host import AgentError
from network import members

ROOT = "/"  # tests have another
CONFIG = "etc/ntp.conf"
RULESET = "ntpClient"
MAX_SERVERS = 10
SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")  # a host name or an IP address


def read(value):
    """The servers of cloud-config's ntp; for ESXi a pool is a server."""
    if not isinstance(value, dict) or set(value) - {"servers", "pools"}:
        raise AgentError("ntp of MAAS's vendor-data is no map of servers and pools")
    servers = []
    for key in ("servers", "pools"):
        names = value.get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) and SERVER.fullmatch(name) for name in names):
            raise AgentError("ntp of MAAS's vendor-data: {} has what is neither a name nor an address".format(key))
        servers += [name for name in names if name not in servers]
    if len(servers) > MAX_SERVERS:
        raise AgentError("ntp of MAAS's vendor-data: {} servers are more than {}".format(len(servers), MAX_SERVERS))
    return servers


def configure(host, servers, version):
    if version >= (7,):
        host.esxcli("system", "ntp", "set", *["--server=" + server for server in servers])
        host.esxcli("system", "ntp", "set", "--enabled=true")
    else:
        write(servers)
        host.run("chkconfig", "ntpd", "on")
        host.run("/etc/init.d/ntpd", "restart")
    if not is_open(host):
        host.esxcli("network", "firewall", "ruleset", "set", "--ruleset-id=" + RULESET, "--enabled=true")
    check(host, servers, version)


def write(servers):
    """Replaces the servers in ntp.conf, and only those."""
    path = os.path.join(ROOT, CONFIG)
    try:
        with open(path) as f:
            lines = [line.rstrip("\n") for line in f if line.split()[:1] not in (["server"], ["pool"], ["peer"])]
        with open(path + ".esxid", "w") as f:
            f.write("".join(line + "\n" for line in lines + ["server " + server for server in servers]))
        os.rename(path + ".esxid", path)
    except OSError as e:
        raise AgentError("cannot write /{}: {}".format(CONFIG, e))


def check(host, servers, version):
    """Reads back what was set."""
    if version >= (7,):
        now = host.fields(["Enabled", "Server"], "system", "ntp", "get")
        same = now["Enabled"] == "true" and sorted(members(now["Server"])) == sorted(servers)
    else:
        host.run("/etc/init.d/ntpd", "status")  # fails if it does not run
        with open(os.path.join(ROOT, CONFIG)) as f:
            same = [line.split()[1:] for line in f if line.startswith("server ")] == [[s] for s in servers]
        same = same and host.run("chkconfig", "ntpd").split()[-1:] == ["on"]
    if not same or not is_open(host):
        raise AgentError("NTP is not what it was set to: look at it with \"{}\"".format(
            "esxcli system ntp get" if version >= (7,) else "cat /" + CONFIG))


def is_open(host):
    rows = host.table(["Name", "Enabled"], "network", "firewall", "ruleset", "list", "--ruleset-id=" + RULESET)
    return any(row["Name"] == RULESET and row["Enabled"] == "true" for row in rows)
