"""The management network: one physical interface, IPv4 by DHCP or static.

Bonds, VLANs, aliases, routes, IPv6 and further interfaces are refused for now.
The result is what MAAS's users know: the interface's port group, named as in
MAAS, on vSwitch0, with vmk0 in it; "VM Network" stays.
"""

import re
import socket
import struct

from host import AgentError, Step, parse_blocks, parse_list, parse_table

SWITCH, VMK, OLD_GROUP = "vSwitch0", "vmk0", "Management Network"


class Wanted:
    """What MAAS asks for."""

    def __init__(self, entry, subnet, servers, search):
        self.name = text(entry, "name")
        self.mac = text(entry, "mac_address").lower()
        self.mtu = entry.get("mtu") or 1500
        self.servers, self.search = servers, search
        self.address = self.netmask = self.gateway = None
        if not re.match(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}$", self.mac):
            raise AgentError("interface {}: {!r} is not a MAC address".format(self.name, self.mac))
        if not isinstance(self.mtu, int) or not 1280 <= self.mtu <= 9000:
            raise AgentError("interface {}: its MTU {!r} is not 1280 to 9000".format(self.name, self.mtu))
        if subnet.get("type") == "static":
            self.address, self.netmask = parse_cidr(text(subnet, "address"))
            self.gateway = parse_ipv4(text(subnet, "gateway")) if subnet.get("gateway") else None
            self.servers = merge(self.servers, subnet.get("dns_nameservers"))
            self.search = merge(self.search, subnet.get("dns_search"))


class State:
    """What the host has."""

    def __init__(self, host):
        self.nics = parse_table(host.esxcli("network", "nic", "list"))
        self.switches = parse_blocks(host.esxcli("network", "vswitch", "standard", "list"))
        self.interfaces = parse_blocks(host.esxcli("network", "ip", "interface", "list"))
        self.addresses = parse_table(host.esxcli("network", "ip", "interface", "ipv4", "get"))
        self.routes = parse_table(host.esxcli("network", "ip", "route", "ipv4", "list"))
        self.servers = parse_list(host.esxcli("network", "ip", "dns", "server", "list"))
        self.search = parse_list(host.esxcli("network", "ip", "dns", "search", "list"))

    def nic(self, mac):
        found = [nic["Name"] for nic in self.nics if nic.get("MAC Address", "").lower() == mac]
        if len(found) != 1:
            known = ", ".join("{} {}".format(n.get("Name"), n.get("MAC Address")) for n in self.nics)
            raise AgentError("{} network interfaces have the MAC address {}; this host has: {}".format(
                len(found) or "no", mac, known or "none that ESXi has a driver for"))
        return found[0]

    def uplinks(self, switch):
        return members(self.switches.get(switch, {}).get("Uplinks"))

    def groups(self, switch):
        return members(self.switches.get(switch, {}).get("Portgroups"))


def read(section):
    """The Wanted network, or an error that names everything that is not supported."""
    configured, problems, servers, search = [], [], [], []
    for entry in section.get("config", []):
        kind = entry.get("type")
        if kind == "nameserver":
            servers, search = merge(servers, entry.get("address")), merge(search, entry.get("search"))
        elif kind != "physical":
            problems.append("{} {}".format(kind, entry.get("name")))
        else:
            subnets = [s for s in entry.get("subnets") or [] if s.get("type") != "manual"]
            configured.extend((entry, subnet) for subnet in subnets)
    if len(configured) != 1:
        problems.append("{} configured addresses instead of one".format(len(configured)))
    problems.extend(p for entry, subnet in configured for p in check_subnet(entry, subnet))
    if problems:
        raise AgentError("this network configuration is not supported yet: {}".format("; ".join(problems)))
    return Wanted(configured[0][0], configured[0][1], servers, search)


def check_subnet(entry, subnet):
    kind, name = subnet.get("type"), entry.get("name")
    if kind not in ("static", "dhcp4"):
        yield "{} on {}".format(kind, name)
    if kind == "static" and ":" in str(subnet.get("address")):
        yield "IPv6 address on {}".format(name)
    if subnet.get("routes"):
        yield "static routes on {}".format(name)


def plan(wanted, state):
    """The steps from state to wanted; none where the host is as wanted already."""
    nic = state.nic(wanted.mac)
    if SWITCH not in state.switches:
        raise AgentError("this host has no {}".format(SWITCH))
    for switch in state.switches:
        if switch != SWITCH and nic in state.uplinks(switch):
            raise AgentError("{} is in use by {}".format(nic, switch))
    return (plan_switch(wanted, state, nic) + plan_interface(wanted, state)
            + plan_names(wanted, state) + plan_removal(wanted, state, nic))


def plan_switch(wanted, state, nic):
    switch, steps = "--vswitch-name=" + SWITCH, []
    standard = ["network", "vswitch", "standard"]
    before = state.uplinks(SWITCH)
    if nic not in before:
        uplink = "--uplink-name=" + nic
        steps.append(Step(standard + ["uplink", "add", uplink, switch], standard + ["uplink", "remove", uplink, switch]))
    if before != [nic]:
        failover = standard + ["policy", "failover", "set", switch]
        back = [failover + ["--active-uplinks=" + ",".join(before)]] if before else []
        steps.append(Step(failover + ["--active-uplinks=" + nic], *back))
    mtu = state.switches[SWITCH].get("MTU")
    if mtu != str(wanted.mtu):
        steps.append(Step(standard + ["set", "--mtu={}".format(wanted.mtu), switch],
                          standard + ["set", "--mtu={}".format(mtu), switch]))
    if wanted.name not in state.groups(SWITCH):
        group = ["--portgroup-name=" + wanted.name, switch]
        steps.append(Step(standard + ["portgroup", "add"] + group, standard + ["portgroup", "remove"] + group))
    return steps


def plan_interface(wanted, state):
    """vmk0 keeps the MAC address of the machine the image was built on; only a new one gets another."""
    name, steps = "--interface-name=" + VMK, []
    old = state.interfaces.get(VMK)
    as_wanted = old is not None and (old.get("Portgroup"), old.get("MAC Address", "").lower(), old.get("MTU")) == (
        wanted.name, wanted.mac, str(wanted.mtu))
    if not as_wanted:
        if old is not None:
            steps.append(remove_interface(name, old))
        steps.append(Step(["network", "ip", "interface", "add", name, "--portgroup-name=" + wanted.name,
                           "--mac-address=" + wanted.mac, "--mtu={}".format(wanted.mtu)],
                          ["network", "ip", "interface", "remove", name]))
        steps.append(Step(["network", "ip", "interface", "tag", "add", name, "--tagname=Management"]))
    if not (as_wanted and has_address(wanted, state)):
        steps.append(set_address(name, wanted))
    if wanted.gateway and not (as_wanted and has_default_route(wanted, state)):
        route = ["--gateway=" + wanted.gateway, "--network=default"]
        steps.append(Step(["network", "ip", "route", "ipv4", "add"] + route,
                          ["network", "ip", "route", "ipv4", "remove"] + route))
    return steps


def remove_interface(name, old):
    """Removes vmk0; undone, it is there again with DHCP, as a fresh installation has it."""
    interface = ["network", "ip", "interface"]
    return Step(interface + ["remove", name],
                interface + ["add", name, "--portgroup-name=" + old.get("Portgroup", OLD_GROUP),
                             "--mac-address=" + old.get("MAC Address", ""), "--mtu=" + old.get("MTU", "1500")],
                interface + ["ipv4", "set", name, "--type=dhcp", "--peer-dns=true"],
                interface + ["tag", "add", name, "--tagname=Management"])


def set_address(name, wanted):
    do = ["network", "ip", "interface", "ipv4", "set", name]
    if wanted.address:
        return Step(do + ["--type=static", "--ipv4=" + wanted.address, "--netmask=" + wanted.netmask])
    return Step(do + ["--type=dhcp", "--peer-dns=true"])


def has_address(wanted, state):
    for row in state.addresses:
        if row.get("Name") == VMK:
            if wanted.address is None:
                return row.get("Address Type") == "DHCP"
            return (row.get("Address Type"), row.get("IPv4 Address"), row.get("IPv4 Netmask")) == (
                "STATIC", wanted.address, wanted.netmask)
    return False


def has_default_route(wanted, state):
    return any(row.get("Network") == "default" and row.get("Gateway") == wanted.gateway for row in state.routes)


def plan_names(wanted, state):
    dns = ["network", "ip", "dns"]
    servers = [["server", "--server=" + s] for s in wanted.servers if s not in state.servers]
    search = [["search", "--domain=" + s] for s in wanted.search if s not in state.search]
    return [Step(dns + [kind, "add", value], dns + [kind, "remove", value]) for kind, value in servers + search]


def plan_removal(wanted, state, nic):
    """What the installation had and MAAS does not want goes last, when all else stands."""
    standard, switch, steps = ["network", "vswitch", "standard"], "--vswitch-name=" + SWITCH, []
    if wanted.name != OLD_GROUP and OLD_GROUP in state.groups(SWITCH):
        group = ["--portgroup-name=" + OLD_GROUP, switch]
        steps.append(Step(standard + ["portgroup", "remove"] + group, standard + ["portgroup", "add"] + group))
    for other in state.uplinks(SWITCH):
        if other != nic:
            uplink = ["--uplink-name=" + other, switch]
            steps.append(Step(standard + ["uplink", "remove"] + uplink, standard + ["uplink", "add"] + uplink))
    return steps


def text(entry, key):
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise AgentError("{}: {} is {!r}".format(entry.get("name") or "network", key, value))
    return value


def members(value):
    return [v.strip() for v in (value or "").split(",") if v.strip()]


def merge(known, more):
    """known and what is new in more, in order."""
    if more is None:
        return known
    more = more if isinstance(more, list) else [more]
    return known + [v for i, v in enumerate(more) if isinstance(v, str) and v not in known + more[:i]]


def parse_ipv4(value):
    try:
        return socket.inet_ntoa(socket.inet_pton(socket.AF_INET, value))
    except OSError:
        raise AgentError("{!r} is not an IPv4 address".format(value))


def parse_cidr(value):
    """Address and netmask of "10.0.0.5/24"."""
    address, _, bits = value.partition("/")
    if not bits.isdigit() or int(bits) > 32:
        raise AgentError("{!r} is not an IPv4 address with a prefix length".format(value))
    mask = (0xffffffff << (32 - int(bits))) & 0xffffffff
    return parse_ipv4(address), socket.inet_ntoa(struct.pack(">I", mask))
