"""What MAAS asks for in the network section of curtin's configuration (version 1).

read() checks everything that can be checked without looking at the host and
returns a Network; network.py makes a plan of it.
"""

import re
import socket
import struct

from host import AgentError

TEAMING = {"balance-rr": "portid", "active-backup": "explicit", "802.3ad": "iphash"}
# What comes nearest, where the operator lets a deployment go on with a warning.
NEAREST = {"balance-tlb": "portid", "balance-alb": "portid", "balance-xor": "iphash"}
MAX_ENTRIES = 256


class Network:
    def __init__(self):
        self.uplinks = []      # the Uplinks that become vSwitches, that of the management interface first
        self.routes = []       # (family, "default" or "10.0.0.0/8", gateway)
        self.servers, self.search = [], []
        self.notes = []        # what is done otherwise than MAAS says, for the log

    def interfaces(self):
        return [i for uplink in self.uplinks for i in uplink.interfaces]


class Uplink:
    """A physical interface or a bond, which becomes a vSwitch."""

    def __init__(self, entry, members, teaming, preferred=None):
        self.name = entry["name"]
        self.mac = entry["mac_address"].lower()
        self.members = members                 # MAC addresses
        self.teaming = teaming                 # as esxcli names it
        self.preferred = preferred             # MAC address of the one active member of "explicit"
        self.mtu = read_mtu(entry)
        self.groups = []                       # (name, VLAN)
        self.interfaces = []
        self.needed = entry["type"] == "bond"  # a bond is made even if only VMs are to use it


class Interface:
    """A VMkernel interface with its port group."""

    def __init__(self, group, mtu):
        self.group, self.mtu = group, mtu
        self.mac = None          # None: ESXi makes one up; only one interface can have the hardware's
        self.ipv4 = None         # "dhcp" or (address, netmask)
        self.ipv6 = []           # "2001:db8::1/64"
        self.dhcp6 = False
        self.router_adv = None   # None: as ESXi has it
        self.gateway = False


def read(section, lenient=False):
    """The Network in a section. lenient: what ESXi does not have is replaced by what comes
    nearest or left out; else it is an error."""
    network = Network()
    entries = read_entries(section)
    uplinks = read_uplinks(entries, lenient, network.notes)
    parents = dict((u.name, (u, 0)) for u in uplinks)
    subnets = []
    for entry in entries:
        kind = entry["type"]
        if kind == "vlan":
            add_vlan(entry, parents)
        if kind == "nameserver":
            network.servers = merge(network.servers, entry.get("address"))
            network.search = merge(network.search, entry.get("search"))
        elif entry.get("name") in parents:
            subnets.extend(read_interfaces(entry, *parents[entry["name"]]))
    for subnet in subnets:
        read_names(subnet, network)
    network.routes = read_routes(subnets, network.notes)
    network.uplinks = [u for u in uplinks if u.needed]
    check(network, subnets)
    choose_management(network)
    give_hardware_addresses(network)
    return network


def read_entries(section):
    entries = section.get("config") if isinstance(section, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries) or len(entries) > MAX_ENTRIES:
        raise AgentError("the network configuration is not a list of entries")
    names = [text(e, "name") for e in entries if e.get("type") != "nameserver"]
    for name in names:
        if names.count(name) > 1:
            raise AgentError("interface {} is there twice".format(name))
    unknown = [str(e.get("type")) for e in entries
               if e.get("type") not in ("physical", "bond", "vlan", "bridge", "nameserver")]
    if unknown:
        raise AgentError("network entries of type {} are not supported".format(", ".join(unknown)))
    return entries


def read_uplinks(entries, lenient, notes):
    """One for each bond and for each physical interface that is in none."""
    physical = dict((e["name"], read_mac(e)) for e in entries if e["type"] == "physical")
    uplinks, taken = [], set()
    for entry in entries:
        if entry["type"] == "bond":
            members = strings(entry.get("bond_interfaces"))
            for name in members:
                if name not in physical or name in taken:
                    raise AgentError("bond {}: its member {} is {}".format(
                        entry["name"], name, "in another bond" if name in taken else "no physical interface"))
                taken.add(name)
            uplinks.append(read_bond(entry, [physical[n] for n in members], lenient, notes))
        if entry["type"] == "bridge":
            if not lenient:
                raise AgentError("bridge {}: ESXi has no bridges".format(entry["name"]))
            notes.append("bridge {} is left out, with all that is configured on it".format(entry["name"]))
    single = [Uplink(e, [read_mac(e)], "portid") for e in entries if e["type"] == "physical" and e["name"] not in taken]
    return uplinks + single


def read_bond(entry, members, lenient, notes):
    name, mac = entry["name"], read_mac(entry)
    params = entry.get("params") if isinstance(entry.get("params"), dict) else {}
    mode = params.get("bond-mode")
    teaming = TEAMING.get(mode)
    if teaming is None and lenient and mode in NEAREST:
        teaming = NEAREST[mode]
        notes.append("bond {}: mode {} is replaced by teaming {}".format(name, mode, teaming))
    if teaming is None:
        raise AgentError("bond {}: mode {} is not supported".format(name, mode))
    if not members:
        raise AgentError("bond {} has no members".format(name))
    preferred = mac if mac in members else members[0]
    if teaming == "explicit" and mac not in members:
        notes.append("bond {}: no member has its MAC address {}, {} is the active one".format(name, mac, preferred))
    return Uplink(entry, members, teaming, preferred if teaming == "explicit" else None)


def add_vlan(entry, parents):
    """A VLAN is a port group on its parent's vSwitch, with an interface or, for VMs, without."""
    parent, vlan = entry.get("vlan_link"), entry.get("vlan_id")
    if not isinstance(vlan, int) or isinstance(vlan, bool) or not 0 <= vlan <= 4095:
        raise AgentError("VLAN {}: its number {!r} is not 0 to 4095".format(entry["name"], vlan))
    if parent not in parents or parents[parent][1]:
        raise AgentError("VLAN {}: its parent {} is no physical interface or bond of its own".format(entry["name"], parent))
    uplink = parents[parent][0]
    uplink.needed = True
    uplink.mtu = max(uplink.mtu, read_mtu(entry))
    uplink.groups.append((entry["name"], vlan))
    parents[entry["name"]] = (uplink, vlan)


def read_interfaces(entry, uplink, vlan):
    """Adds an entry's interfaces to its uplink; returns its configured subnets.

    An interface has one IPv4 address and any number of IPv6 ones, so that each
    further IPv4 address needs an interface and a port group of its own."""
    name, mtu = entry["name"], read_mtu(entry)
    subnets = [s for s in entry.get("subnets") or [] if isinstance(s, dict) and s.get("type") != "manual"]
    if entry["type"] == "bond" or subnets and entry["type"] == "physical":
        uplink.needed = True
        uplink.groups.append((name, vlan))
    found = []
    for subnet in subnets:
        subnet["interface"] = name
        address = read_address(subnet)
        if not found or address[0] == 4 and found[-1].ipv4:
            group = "{}:{}".format(name, len(found)) if found else name
            if found:
                uplink.groups.append((group, vlan))
            found.append(Interface(group, mtu))
        set_address(found[-1] if address[0] == 4 else found[0], address)
        (found[-1] if address[0] == 4 else found[0]).gateway |= bool(subnet.get("gateway"))
    accept = entry.get("accept-ra", entry.get("accept_ra"))
    for interface in found:
        interface.router_adv = None if accept is None else bool(accept)
    uplink.interfaces.extend(found)
    return subnets


def read_address(subnet):
    """(family, address): address is "dhcp", or with netmask or prefix length."""
    kind, name = subnet.get("type"), subnet["interface"]
    if kind in ("dhcp", "dhcp4"):
        return 4, "dhcp", kind == "dhcp"
    if kind == "dhcp6":
        return 6, "dhcp", True
    if kind != "static":
        raise AgentError("interface {}: a subnet of type {} is not supported".format(name, kind))
    try:
        family, address, bits = parse_cidr(text(subnet, "address"))
    except AgentError as e:
        raise AgentError("interface {}: {}".format(name, e))
    subnet["family"], subnet["parsed"] = family, (address, bits)
    return (4, (address, netmask(bits)), False) if family == 4 else (6, "{}/{}".format(address, bits), False)


def set_address(interface, address):
    family, value, dhcp6 = address
    interface.dhcp6 |= dhcp6
    if family == 4:
        interface.ipv4 = value
    elif value != "dhcp":
        interface.ipv6.append(value)


def read_names(subnet, network):
    network.servers = merge(network.servers, subnet.get("dns_nameservers"))
    network.search = merge(network.search, subnet.get("dns_search"))


def read_routes(subnets, notes):
    """The default routes, then the others, each destination once."""
    found = []
    for subnet in subnets:
        if subnet.get("gateway"):
            family, gateway = parse_ip(subnet["gateway"])
            found.append((0, family, "default", gateway))
        for route in subnet.get("routes") or []:
            if not isinstance(route, dict) or not route.get("destination") or not route.get("gateway"):
                raise AgentError("interface {}: the route {} has no destination or no gateway".format(
                    subnet["interface"], route))
            family, address, bits = parse_cidr(route["destination"])
            if parse_ip(route["gateway"])[0] != family:
                raise AgentError("route to {}: its gateway {} is of another kind".format(
                    route["destination"], route["gateway"]))
            found.append((route.get("metric") or 0, family, network_of(family, address, bits), parse_ip(route["gateway"])[1]))
    routes = {}
    for metric, family, destination, gateway in sorted(found, key=lambda r: (r[2] != "default", r[0])):
        known = routes.setdefault((family, destination), gateway)
        if known != gateway:
            notes.append("route to {}: ESXi has one gateway for it, {}, and {} is left out".format(destination, known, gateway))
    return [(family, destination, routes[family, destination]) for family, destination in sorted(
        routes, key=lambda r: (r[1] != "default", r))]


def check(network, subnets):
    if not subnets:
        raise AgentError("no interface has an address: this host could not be reached")
    for server in network.servers:
        parse_ip(server)
    addresses = [s["parsed"][0] for s in subnets if "parsed" in s]
    for address in addresses:
        if addresses.count(address) > 1:
            raise AgentError("address {} is configured twice".format(address))
    if any(s.get("type") != "static" for s in subnets):
        return  # a lease may bring the network of any gateway
    networks = [(s["family"], network_of(s["family"], *s["parsed"]), s["parsed"][1]) for s in subnets]
    for family, destination, gateway in network.routes:
        if not any(f == family and network_of(f, gateway, bits) == net for f, net, bits in networks):
            raise AgentError("gateway {} of the route to {} is in no subnet of this host".format(gateway, destination))


def choose_management(network):
    """The interface with the default gateway, else one with DHCP, else the first."""
    interfaces = network.interfaces()
    wishes = ([i for i in interfaces if i.gateway and i.ipv4], [i for i in interfaces if i.gateway],
              [i for i in interfaces if i.ipv4 == "dhcp" or i.dhcp6], interfaces)
    chosen = next(wish[0] for wish in wishes if wish)
    uplink = next(u for u in network.uplinks if chosen in u.interfaces)
    network.uplinks.sort(key=lambda u: u is not uplink)
    uplink.interfaces.sort(key=lambda i: i is not chosen)


def give_hardware_addresses(network):
    """A switch learns one port for a MAC address, so that only one interface of an uplink may
    have the hardware's: the one without a VLAN and alias, as MAAS knows it."""
    for uplink in network.uplinks:
        own = [i for i in uplink.interfaces if i.group == uplink.name] + uplink.interfaces
        if own:
            own[0].mac = uplink.mac


# Values.

def text(entry, key):
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise AgentError("{}: {} is {!r}".format(entry.get("name") or entry.get("interface") or "network", key, value))
    return value


def strings(value):
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def read_mac(entry):
    mac = text(entry, "mac_address").lower()
    if not re.match(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}$", mac):
        raise AgentError("interface {}: {!r} is not a MAC address".format(entry["name"], mac))
    return mac


def read_mtu(entry):
    mtu = entry.get("mtu") or 1500
    if not isinstance(mtu, int) or not 1280 <= mtu <= 9000:
        raise AgentError("interface {}: its MTU {!r} is not 1280 to 9000".format(entry["name"], mtu))
    return mtu


def merge(known, more):
    """known and what is new in more, in order."""
    result = list(known)
    for value in [more] if isinstance(more, str) else strings(more):
        if value not in result:
            result.append(value)
    return result


def parse_ip(value):
    """(4 or 6, the address as ESXi writes it)."""
    for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        try:
            return family, socket.inet_ntop(kind, socket.inet_pton(kind, value))
        except (OSError, TypeError):
            continue
    raise AgentError("{!r} is not an IP address".format(value))


def parse_cidr(value):
    address, _, bits = str(value).partition("/")
    family, address = parse_ip(address)
    if not bits.isdigit() or not 1 <= int(bits) <= (32 if family == 4 else 128):
        raise AgentError("{!r} is not an IP address with a prefix length".format(value))
    return family, address, int(bits)


def netmask(bits):
    return socket.inet_ntoa(struct.pack(">I", (0xffffffff << (32 - bits)) & 0xffffffff))


def network_of(family, address, bits):
    """The network an address is in: "10.0.0.0/8"."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    packed = socket.inet_pton(kind, address)
    length = 8 * len(packed)
    number = int.from_bytes(packed, "big") >> (length - bits) << (length - bits)
    return "{}/{}".format(socket.inet_ntop(kind, number.to_bytes(len(packed), "big")), bits)
