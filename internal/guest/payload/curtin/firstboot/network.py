"""The plan for the network: from what the host has to what netconfig.Network wants.

The management interface comes first: its vSwitch (vSwitch0, which the
installation made) gets its uplinks and port groups, then vmk0 moves to it. Only
when that is done, what is left of the old network goes, which frees its uplink
for another vSwitch. If anything fails, restore.py brings the old one back.
"""

from host import AgentError, Step, apply

MAIN_SWITCH, MANAGEMENT, OLD_GROUP = "vSwitch0", "vmk0", "Management Network"
STANDARD = ["esxcli", "network", "vswitch", "standard"]
INTERFACE = ["esxcli", "network", "ip", "interface"]
ROUTE, DNS = ["esxcli", "network", "ip", "route"], ["esxcli", "network", "ip", "dns"]
BALANCING = {"srcport": "portid", "srcmac": "mac"}  # as policy get says it, and as set wants it


class State:
    """What the host has, in values that JSON can keep."""

    def __init__(self, host=None, record=None):
        """As the host has it now, or as it was when record() was called."""
        if record is None:
            self.read(host)
        else:
            self.__dict__.update(record)

    def record(self):
        return dict(self.__dict__)

    def read(self, host):
        standard, interface = STANDARD[1:], INTERFACE[1:]
        self.nics = host.table(["Name", "MAC Address"], "network", "nic", "list")
        self.switches = host.blocks(["Uplinks", "MTU"], *(standard + ["list"]))
        self.groups = dict((row["Name"], [row["Virtual Switch"], row["VLAN ID"]]) for row in host.table(
            ["Name", "Virtual Switch", "VLAN ID"], *(standard + ["portgroup", "list"])))
        self.interfaces = host.blocks(["MAC Address", "Portgroup", "MTU"], *(interface + ["list"]))
        self.ipv4 = by_name(host.table(["Name", "IPv4 Address", "IPv4 Netmask", "Address Type"], *(interface + ["ipv4", "get"])))
        self.ipv6 = by_name(host.table(["Name"], *(interface + ["ipv6", "get"])))
        self.addresses6 = host.table(["Interface", "Address", "Netmask"], *(interface + ["ipv6", "address", "list"]))
        self.routes = dict((family, host.table(["Network", "Netmask", "Gateway", "Interface"], *(ROUTE[1:] + [family, "list"])))
                           for family in ("ipv4", "ipv6"))
        self.servers = read_list(host.fields(["DNSServers"], *(DNS[1:] + ["server", "list"])))
        self.search = read_list(host.fields(["DNSSearch Domains"], *(DNS[1:] + ["search", "list"])))
        self.policies = dict((name, read_teaming(host.fields(
            ["Load Balancing", "Active Adapters"], *(standard + ["policy", "failover", "get", "--vswitch-name=" + name]))))
                             for name in self.switches)
        self.tags = dict((name, members(host.fields(["Tags"], *(interface + ["tag", "get", "--interface-name=" + name]))["Tags"]))
                         for name in self.interfaces)

    def check(self):
        """Refuses to begin with a host that shows nothing that could be brought back."""
        if not self.switches or not self.interfaces:
            raise AgentError("this host has no vSwitch or no VMkernel interface")

    def nic(self, mac):
        found = [nic["Name"] for nic in self.nics if nic.get("MAC Address", "").lower() == mac]
        if len(found) != 1:
            known = ", ".join("{} {}".format(n.get("Name"), n.get("MAC Address")) for n in self.nics)
            raise AgentError("{} network interfaces have the MAC address {}; this host has: {}".format(
                len(found) or "no", mac, known or "none that ESXi has a driver for"))
        return found[0]

    def uplinks(self, switch):
        return members(self.switches.get(switch, {}).get("Uplinks"))

    def teaming(self, switch):
        """[load balancing, active, standby]; that of a new switch if there is none."""
        return self.policies.get(switch, ["portid", [], []])

    def mtu(self, switch):
        return self.switches.get(switch, {}).get("MTU", "1500")

    def switch_of(self, group):
        return self.groups.get(group, [None])[0]


def plan(wanted, state):
    """The steps from state to wanted; none where the host is as wanted already."""
    names = switch_names(wanted, state)
    nics = dict((u, [state.nic(mac) for mac in u.members]) for u in wanted.uplinks)
    taken = [nic for u in wanted.uplinks for nic in nics[u]]
    check_unique(taken)
    vmks = interface_names(wanted, state)
    check_addresses(wanted, state, vmks)
    steps, fresh = [], set()
    for uplink in wanted.uplinks:
        name = names[uplink]
        steps += plan_switch(uplink, name, nics[uplink], state)
        steps += [step for group, vlan in uplink.groups for step in plan_group(group, vlan, name, state)]
        for interface in uplink.interfaces:
            steps += plan_interface(interface, vmks[interface], state, fresh)
        if uplink is wanted.uplinks[0]:
            steps += plan_removal(wanted, nics, names, state)
    return steps + plan_routes(wanted, state, fresh) + plan_names(wanted, state, fresh)


def establish(host, wanted, steps, journal):
    """Carries out a plan, and then what it could not know or what a command has left undone."""
    apply(host, steps)
    rest = plan(wanted, State(host))
    for step in rest:
        journal.say("plan: {}".format(step))
    apply(host, rest)


def check_unique(nics):
    for nic in nics:
        if nics.count(nic) > 1:
            raise AgentError("{} is wanted twice".format(nic))


def switch_names(wanted, state):
    """{Uplink: vSwitch}. The first uplink has the management interface."""
    names = {wanted.uplinks[0]: MAIN_SWITCH}
    for uplink in wanted.uplinks[1:]:
        there = state.switch_of(uplink.groups[0][0])  # from an earlier run
        number = 1
        while "vSwitch{}".format(number) in list(state.switches) + list(names.values()):
            number += 1
        names[uplink] = there or "vSwitch{}".format(number)
    for uplink in wanted.uplinks:
        for group, _ in uplink.groups:
            there = state.switch_of(group)
            if there not in (None, names[uplink]):
                raise AgentError("port group {} is on {} already, not on {}".format(group, there, names[uplink]))
    return names


def interface_names(wanted, state):
    """{Interface: vmkN}: vmk0 for management, else the one in its port group or a free one."""
    in_group = dict((v.get("Portgroup"), name) for name, v in state.interfaces.items())
    names = {}
    for interface in wanted.interfaces():
        number = 1
        while "vmk{}".format(number) in list(state.interfaces) + list(names.values()):
            number += 1
        there = in_group.get(interface.group)
        names[interface] = MANAGEMENT if not names else there if there and there != MANAGEMENT else "vmk{}".format(number)
    return names


def check_addresses(wanted, state, vmks):
    """Two interfaces with one MAC address would take each other's packets."""
    used = dict((v.get("MAC Address", "").lower(), name) for name, v in state.interfaces.items()
                if name not in vmks.values())
    for interface, name in vmks.items():
        if interface.mac in used:
            raise AgentError("{} cannot have the MAC address {}: {} has it".format(name, interface.mac, used[interface.mac]))
        if interface.mac:
            used[interface.mac] = name


def plan_switch(uplink, name, nics, state):
    switch, steps = "--vswitch-name=" + name, []
    if name not in state.switches:
        steps.append(Step(STANDARD + ["add", switch]))
    for nic in nics:
        if nic not in state.uplinks(name):
            steps += take_uplink(nic, name, state)
            steps.append(Step(set_uplink("add", nic, name)))
    active = nics if not uplink.preferred else [nics[uplink.members.index(uplink.preferred)]]
    teaming = [uplink.teaming, active, [nic for nic in nics if nic not in active]]
    if state.teaming(name) != teaming:
        steps.append(Step(set_teaming(name, teaming)))
    if state.mtu(name) != str(uplink.mtu):
        steps.append(Step(STANDARD + ["set", "--mtu={}".format(uplink.mtu), switch]))
    return steps


def take_uplink(nic, name, state):
    """Frees a NIC that is on another vSwitch; plan_removal has freed those of the old network."""
    owners = [s for s in state.switches if s not in (name, MAIN_SWITCH) and nic in state.uplinks(s)]
    return [Step(set_uplink("remove", nic, owner)) for owner in owners]


def set_uplink(verb, nic, switch):
    return STANDARD + ["uplink", verb, "--uplink-name=" + nic, "--vswitch-name=" + switch]


def set_teaming(switch, teaming):
    balancing, active, standby = teaming
    command = STANDARD + ["policy", "failover", "set", "--vswitch-name=" + switch, "--load-balancing=" + balancing,
                          "--active-uplinks=" + ",".join(active)]
    return command + (["--standby-uplinks=" + ",".join(standby)] if standby else [])


def plan_group(name, vlan, switch, state):
    steps, old = [], state.groups.get(name)
    if old is None:
        steps.append(Step(change_group("add", name, switch)))
    if (old[1] if old else "0") != str(vlan):
        steps.append(Step(set_vlan(name, vlan)))
    return steps


def change_group(verb, name, switch):
    return STANDARD + ["portgroup", verb, "--portgroup-name=" + name, "--vswitch-name=" + switch]


def set_vlan(group, vlan):
    return STANDARD + ["portgroup", "set", "--portgroup-name=" + group, "--vlan-id={}".format(vlan)]


def plan_interface(interface, vmk, state, fresh):
    """vmk0 keeps the MAC address of the machine the image was built on; only a new one gets another."""
    steps, old = [], state.interfaces.get(vmk)
    if not is_same(interface, old):
        fresh.add(vmk)
        steps += [Step(remove_interface(vmk))] if old else []
        steps.append(Step(add_interface(vmk, interface.group, interface.mac, interface.mtu)))
    if vmk == MANAGEMENT and (vmk in fresh or "Management" not in state.tags.get(vmk, [])):
        steps.append(Step(add_tag(vmk, "Management")))
    if vmk in fresh or not has_ipv4(interface, state.ipv4.get(vmk, {})):
        steps.append(Step(set_ipv4(vmk, interface.ipv4)))
    return steps + plan_ipv6(interface, vmk, state, vmk in fresh)


def add_interface(vmk, group, mac, mtu):
    command = INTERFACE + ["add", "--interface-name=" + vmk, "--portgroup-name=" + group]
    return command + (["--mac-address=" + mac] if mac else []) + ["--mtu={}".format(mtu)]


def remove_interface(vmk):
    return INTERFACE + ["remove", "--interface-name=" + vmk]


def add_tag(vmk, tag):
    return INTERFACE + ["tag", "add", "--interface-name=" + vmk, "--tagname=" + tag]


def is_same(interface, old):
    return old is not None and (old.get("Portgroup"), old.get("MTU")) == (interface.group, str(interface.mtu)) and (
        interface.mac in (None, old.get("MAC Address", "").lower()))


def set_ipv4(vmk, address, peer_dns="true"):
    """address is None, "dhcp" or (address, netmask)."""
    command = INTERFACE + ["ipv4", "set", "--interface-name=" + vmk]
    if address is None:
        return command + ["--type=none"]
    if address == "dhcp":
        return command + ["--type=dhcp", "--peer-dns=" + peer_dns]
    return command + ["--type=static", "--ipv4=" + address[0], "--netmask=" + address[1]]


def has_ipv4(interface, row):
    if isinstance(interface.ipv4, tuple):
        return (row.get("Address Type"), row.get("IPv4 Address"), row.get("IPv4 Netmask")) == ("STATIC",) + interface.ipv4
    return row.get("Address Type") == ("DHCP" if interface.ipv4 else "NONE")


def plan_ipv6(interface, vmk, state, fresh):
    settings, row = [], {} if fresh else state.ipv6.get(vmk, {})
    if interface.dhcp6 and row.get("DHCPv6 Enabled") != "true":
        settings += ["--enable-dhcpv6=true", "--peer-dns=true"]
    if interface.router_adv is not None and row.get("Router Adv Enabled") != str(interface.router_adv).lower():
        settings.append("--enable-router-adv=" + str(interface.router_adv).lower())
    steps = [Step(INTERFACE + ["ipv6", "set", "--interface-name=" + vmk] + settings)] if settings else []
    there = [] if fresh else addresses6(state, vmk)
    return steps + [Step(change_address6("add", vmk, a)) for a in interface.ipv6 if a not in there]


def addresses6(state, vmk):
    return ["{}/{}".format(row["Address"], row["Netmask"]) for row in state.addresses6 if row["Interface"] == vmk]


def change_address6(verb, vmk, address):
    return INTERFACE + ["ipv6", "address", verb, "--interface-name=" + vmk, "--ipv6=" + address]


def plan_removal(wanted, nics, names, state):
    """What the installation had and MAAS does not want goes when the management network stands."""
    steps = []
    if state.switch_of(OLD_GROUP) == MAIN_SWITCH:
        steps.append(Step(change_group("remove", OLD_GROUP, MAIN_SWITCH)))
    return steps + [Step(set_uplink("remove", nic, MAIN_SWITCH)) for nic in state.uplinks(MAIN_SWITCH)
                    if nic not in nics[wanted.uplinks[0]]]


def plan_routes(wanted, state, fresh):
    """Routes whose interface is made anew go with the old one."""
    steps = []
    for number, network, gateway in wanted.routes:
        family = "ipv{}".format(number)
        there = [row for row in state.routes[family] if row["Interface"] not in fresh
                 and row_network(family, row) == network and row.get("Source") != "DHCP"]
        if not any(row["Gateway"] == gateway for row in there):
            steps += [Step(change_route("remove", family, network, row["Gateway"])) for row in there]
            steps.append(Step(change_route("add", family, network, gateway)))
    return steps


def change_route(verb, family, network, gateway):
    return ROUTE + [family, verb, "--gateway=" + gateway, "--network=" + network]


def row_network(family, row):
    if row["Network"] == "default":
        return "default"
    bits = row["Netmask"]
    if family == "ipv4":
        bits = sum(bin(int(part)).count("1") for part in bits.split(".") if part.isdigit())
    return "{}/{}".format(row["Network"], bits)


def plan_names(wanted, state, fresh):
    """The lists do not tell which servers came with a lease and go with its interface: where one
    is made anew, the plan that follows has these steps."""
    return [Step(change_name("add", kind, value)) for kind, values, known in (
        ("server", wanted.servers, state.servers), ("search", wanted.search, state.search))
            for value in values if value not in known and not fresh]


def change_name(verb, kind, value):
    return DNS + [kind, verb, {"server": "--server=", "search": "--domain="}[kind] + value]


def by_name(rows):
    return dict((row["Name"], row) for row in rows)


def members(value):
    return [v.strip() for v in (value or "").split(",") if v.strip()]


def read_list(fields):
    """The values of a single field."""
    return [v for value in fields.values() for v in members(value)]


def read_teaming(fields):
    balancing = fields["Load Balancing"]
    return [BALANCING.get(balancing, balancing), members(fields["Active Adapters"]), members(fields.get("Standby Adapters"))]
