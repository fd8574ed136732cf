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


class Subnet:
    """One of an interface's subnets: how it gets its address there."""

    def __init__(self, entry, interface):
        self.entry, self.interface = entry, interface
        self.kind = entry.get("type")
        self.family = 6 if self.kind == "dhcp6" else 4  # "dhcp" is both
        self.dhcp6 = self.kind in ("dhcp", "dhcp6")
        self.dhcp4 = self.kind in ("dhcp", "dhcp4")
        self.address = self.bits = None                 # of a static one
        if self.kind == "static":
            try:
                self.family, self.address, self.bits = parse_cidr(text(entry, "address"))
            except AgentError as e:
                raise AgentError("interface {}: {}".format(interface, e))
            if self.family == 4 and self.bits > 31:
                raise AgentError("interface {}: ESXi takes no IPv4 address with the prefix length 32".format(interface))
        elif not self.dhcp4 and not self.dhcp6:
            raise AgentError("interface {}: a subnet of type {} is not supported".format(interface, self.kind))

    def network(self):
        return network_of(self.family, self.address, self.bits)


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
            read_names(entry, network, "address", "search")
        elif entry.get("name") in parents:
            subnets.extend(read_interfaces(entry, *parents[entry["name"]]))
    for subnet in subnets:
        read_names(subnet.entry, network)
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
    for entry in entries:
        if entry["type"] == "physical" and entry["name"] in taken and configured(entry):
            raise AgentError("interface {} is a member of a bond and cannot have addresses".format(entry["name"]))
    single = [Uplink(e, [read_mac(e)], "portid") for e in entries if e["type"] == "physical" and e["name"] not in taken]
    return uplinks + single


def read_bond(entry, members, lenient, notes):
    name, mac = entry["name"], read_mac(entry)
    params = entry.get("params") if isinstance(entry.get("params"), dict) else {}
    mode = str(params.get("bond-mode"))
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
    parent, vlan = text(entry, "vlan_link"), entry.get("vlan_id")
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
    subnets = [Subnet(s, name) for s in configured(entry)]
    if entry["type"] == "bond" or subnets and entry["type"] == "physical":
        uplink.needed = True
        uplink.groups.append((name, vlan))
    found = []
    for subnet in subnets:
        if not found or subnet.family == 4 and found[-1].ipv4:
            group = "{}:{}".format(name, len(found)) if found else name
            if found:
                uplink.groups.append((group, vlan))
            found.append(Interface(group, mtu))
        set_address(found[-1] if subnet.family == 4 else found[0], subnet)
    accept = entry.get("accept-ra", entry.get("accept_ra"))
    for interface in found:
        interface.router_adv = None if accept is None else bool(accept)
    uplink.interfaces.extend(found)
    return subnets


def configured(entry):
    """The subnets in which an interface is to have an address."""
    return [s for s in dicts(entry, "subnets") if s.get("type") != "manual"]


def set_address(interface, subnet):
    interface.dhcp6 |= subnet.dhcp6
    interface.gateway |= bool(subnet.entry.get("gateway"))
    if subnet.dhcp4:
        interface.ipv4 = "dhcp"
    elif subnet.address and subnet.family == 4:
        interface.ipv4 = (subnet.address, netmask(subnet.bits))
    elif subnet.address:
        interface.ipv6.append("{}/{}".format(subnet.address, subnet.bits))


def read_names(entry, network, servers="dns_nameservers", search="dns_search"):
    network.servers = merge(network.servers, [parse_ip(server)[1] for server in strings(entry.get(servers))])
    network.search = merge(network.search, strings(entry.get(search)))


def read_routes(subnets, notes):
    """The default routes, then the others, each destination once."""
    found = []
    for subnet in subnets:
        if subnet.entry.get("gateway"):
            family, gateway = parse_ip(subnet.entry["gateway"])
            found.append((0, family, "default", gateway))
        found += [read_route(route, subnet) for route in dicts(subnet.entry, "routes")]
    routes = {}
    for metric, family, destination, gateway in sorted(found, key=lambda r: (r[2] != "default", r[0])):
        known = routes.setdefault((family, destination), gateway)
        if known != gateway:
            notes.append("route to {}: ESXi has one gateway for it, {}, and {} is left out".format(destination, known, gateway))
    return [(family, destination, routes[family, destination]) for family, destination in sorted(
        routes, key=lambda r: (r[1] != "default", r))]


def read_route(route, subnet):
    """(metric, family, destination, gateway)"""
    metric = route.get("metric") or 0
    if not route.get("destination") or not route.get("gateway") or not isinstance(metric, int):
        raise AgentError("interface {}: the route {} has no destination, no gateway or an odd metric".format(
            subnet.interface, route))
    family, address, bits = parse_cidr(route["destination"], smallest=0)
    kind, gateway = parse_ip(route["gateway"])
    if kind != family:
        raise AgentError("route to {}: its gateway {} is of another kind".format(route["destination"], gateway))
    return metric, family, network_of(family, address, bits) if bits else "default", gateway


def check(network, subnets):
    if not subnets:
        raise AgentError("no interface has an address: this host could not be reached")
    addresses = [s.address for s in subnets if s.address]
    for address in addresses:
        if addresses.count(address) > 1:
            raise AgentError("address {} is configured twice".format(address))
    if len(addresses) < len(subnets):
        return  # a lease may bring the network of any gateway
    for family, destination, gateway in network.routes:
        if not any(s.family == family and network_of(family, gateway, s.bits) == s.network() for s in subnets):
            why = "is link-local, which is not supported" if is_link_local(family, gateway) else "is in no subnet of this host"
            raise AgentError("gateway {} of the route to {} {}: change it in MAAS".format(gateway, destination, why))


def is_link_local(family, address):
    """Whether it is in fe80::/10 (RFC 4291, 2.5.6), which MAAS takes for the gateway of any subnet."""
    return family == 6 and network_of(6, address, 10) == "fe80::/10"


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
    """The texts in a list, or a single one."""
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else [value] if isinstance(value, str) else []


def dicts(entry, key):
    """The objects in a list; a value that is none is an error, for it would be lost."""
    value = entry.get(key) or []
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise AgentError("{}: {} is {!r}".format(entry.get("name") or "network", key, value))
    return value


def read_mac(entry):
    mac = text(entry, "mac_address").lower()
    if not re.match(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}$", mac):
        raise AgentError("interface {}: {!r} is not a MAC address".format(entry["name"], mac))
    return mac


def read_mtu(entry):
    mtu = entry.get("mtu") or 1500
    if not isinstance(mtu, int) or isinstance(mtu, bool) or not 1280 <= mtu <= 9000:
        raise AgentError("interface {}: its MTU {!r} is not 1280 to 9000".format(entry["name"], mtu))
    return mtu


def merge(known, more):
    """known and what is new in more, in order."""
    result = list(known)
    for value in more:
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


def parse_cidr(value, smallest=1):
    """(family, address, bits) of "ADDRESS/BITS"."""
    address, _, bits = str(value).partition("/")
    family, address = parse_ip(address)
    if not re.match("[0-9]{1,3}$", bits) or not smallest <= int(bits) <= (32 if family == 4 else 128):
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
