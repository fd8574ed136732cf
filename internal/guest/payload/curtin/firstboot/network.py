"""The plan for the network: from what the host has to what netconfig.Network wants.

The management interface comes first: its vSwitch (vSwitch0, which the
installation made) gets its uplinks and port groups, then vmk0 moves to it. Only
when that is done, what is left of the old network goes, which frees its uplink
for another vSwitch. All steps can be undone, and nothing survives a reboot
before auto-backup.sh has run.
"""

from host import AgentError, Step, parse_blocks, parse_fields, parse_list, parse_table

MAIN_SWITCH, MANAGEMENT, OLD_GROUP = "vSwitch0", "vmk0", "Management Network"
STANDARD = ["esxcli", "network", "vswitch", "standard"]
INTERFACE = ["esxcli", "network", "ip", "interface"]
BALANCING = {"srcport": "portid", "srcmac": "mac"}  # as policy get says it, and as set wants it


class State:
    """What the host has."""

    def __init__(self, host):
        self.host = host
        self.nics = parse_table(host.esxcli("network", "nic", "list"))
        self.switches = parse_blocks(host.esxcli("network", "vswitch", "standard", "list"))
        self.groups = dict((row["Name"], (row["Virtual Switch"], row["VLAN ID"])) for row in parse_table(
            host.esxcli("network", "vswitch", "standard", "portgroup", "list")))
        self.interfaces = parse_blocks(host.esxcli("network", "ip", "interface", "list"))
        self.ipv4 = by_name(host.esxcli("network", "ip", "interface", "ipv4", "get"))
        self.ipv6 = by_name(host.esxcli("network", "ip", "interface", "ipv6", "get"))
        self.addresses6 = parse_table(host.esxcli("network", "ip", "interface", "ipv6", "address", "list"))
        self.routes = dict((family, parse_table(host.esxcli("network", "ip", "route", "ipv{}".format(family), "list")))
                           for family in (4, 6))
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

    def teaming(self, switch):
        """(load balancing, active, standby)."""
        fields = parse_fields(self.host.esxcli(*(STANDARD[1:] + ["policy", "failover", "get", "--vswitch-name=" + switch])))
        balancing = fields.get("Load Balancing", "")
        return (BALANCING.get(balancing, balancing), members(fields.get("Active Adapters")),
                members(fields.get("Standby Adapters")))


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


def check_unique(nics):
    for nic in nics:
        if nics.count(nic) > 1:
            raise AgentError("{} is wanted twice".format(nic))


def switch_names(wanted, state):
    """{Uplink: vSwitch}. The first uplink has the management interface."""
    names = {wanted.uplinks[0]: MAIN_SWITCH}
    for uplink in wanted.uplinks[1:]:
        there = state.groups.get(uplink.groups[0][0], (None,))[0]  # from an earlier run
        number = 1
        while "vSwitch{}".format(number) in list(state.switches) + list(names.values()):
            number += 1
        names[uplink] = there or "vSwitch{}".format(number)
    for uplink in wanted.uplinks:
        for group, _ in uplink.groups:
            there = state.groups.get(group, (names[uplink],))[0]
            if there != names[uplink]:
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
    there = name in state.switches
    if not there:
        steps.append(Step(STANDARD + ["add", switch], STANDARD + ["remove", switch]))
    before, mtu = state.uplinks(name), state.switches.get(name, {}).get("MTU", "1500")
    for nic in nics:
        if nic not in before:
            steps += take_uplink(nic, name, state)
            steps.append(uplink_step("add", "remove", nic, name))
    teaming = state.teaming(name) if there else ("portid", [], [])
    active = nics if not uplink.preferred else [nics[uplink.members.index(uplink.preferred)]]
    standby = [nic for nic in nics if nic not in active]
    if teaming != (uplink.teaming, active, standby):
        steps.append(Step(set_teaming(switch, uplink.teaming, active, standby),
                          *[set_teaming(switch, *teaming)] if teaming[1] else []))
    if mtu != str(uplink.mtu):
        steps.append(Step(STANDARD + ["set", "--mtu={}".format(uplink.mtu), switch],
                          STANDARD + ["set", "--mtu=" + mtu, switch]))
    return steps


def take_uplink(nic, name, state):
    """Frees a NIC that is on another vSwitch; plan_removal has freed those of the old network."""
    owners = [s for s in state.switches if s not in (name, MAIN_SWITCH) and nic in state.uplinks(s)]
    return [uplink_step("remove", "add", nic, owner) for owner in owners]


def uplink_step(do, undo, nic, switch):
    arguments = ["--uplink-name=" + nic, "--vswitch-name=" + switch]
    return Step(STANDARD + ["uplink", do] + arguments, STANDARD + ["uplink", undo] + arguments)


def set_teaming(switch, balancing, active, standby):
    command = STANDARD + ["policy", "failover", "set", switch, "--load-balancing=" + balancing,
                          "--active-uplinks=" + ",".join(active)]
    return command + (["--standby-uplinks=" + ",".join(standby)] if standby else [])


def plan_group(name, vlan, switch, state):
    steps, group = [], ["--portgroup-name=" + name]
    old = state.groups.get(name)
    if old is None:
        where = group + ["--vswitch-name=" + switch]
        steps.append(Step(STANDARD + ["portgroup", "add"] + where, STANDARD + ["portgroup", "remove"] + where))
    if (old[1] if old else "0") != str(vlan):
        back = [STANDARD + ["portgroup", "set"] + group + ["--vlan-id=" + old[1]]] if old else []
        steps.append(Step(STANDARD + ["portgroup", "set"] + group + ["--vlan-id={}".format(vlan)], *back))
    return steps


def plan_interface(interface, vmk, state, fresh):
    """vmk0 keeps the MAC address of the machine the image was built on; only a new one gets another."""
    name, steps = "--interface-name=" + vmk, []
    old = state.interfaces.get(vmk)
    if not is_same(interface, old):
        fresh.add(vmk)
        if old is not None:
            steps.append(Step(INTERFACE + ["remove", name], *restore_interface(vmk, old, state)))
        add = INTERFACE + ["add", name, "--portgroup-name=" + interface.group]
        add += ["--mac-address=" + interface.mac] if interface.mac else []
        steps.append(Step(add + ["--mtu={}".format(interface.mtu)], INTERFACE + ["remove", name]))
        if vmk == MANAGEMENT:
            steps.append(Step(INTERFACE + ["tag", "add", name, "--tagname=Management"]))
    if vmk in fresh or not has_ipv4(interface, state.ipv4.get(vmk, {})):
        steps.append(Step(set_ipv4(name, interface.ipv4)))
    return steps + plan_ipv6(interface, vmk, state, vmk in fresh)


def is_same(interface, old):
    return old is not None and (old.get("Portgroup"), old.get("MTU")) == (interface.group, str(interface.mtu)) and (
        interface.mac in (None, old.get("MAC Address", "").lower()))


def restore_interface(vmk, old, state):
    """The commands that make an interface again as it was."""
    name, row = "--interface-name=" + vmk, state.ipv4.get(vmk, {})
    address = "dhcp"
    if row.get("Address Type") == "STATIC":
        address = (row["IPv4 Address"], row["IPv4 Netmask"])
    commands = [INTERFACE + ["add", name, "--portgroup-name=" + old.get("Portgroup", OLD_GROUP),
                             "--mac-address=" + old.get("MAC Address", ""), "--mtu=" + old.get("MTU", "1500")],
                set_ipv4(name, address)]
    if vmk == MANAGEMENT:
        commands.append(INTERFACE + ["tag", "add", name, "--tagname=Management"])
    return commands


def set_ipv4(name, address):
    command = INTERFACE + ["ipv4", "set", name]
    if address is None:
        return command + ["--type=none"]
    if address == "dhcp":
        return command + ["--type=dhcp", "--peer-dns=true"]
    return command + ["--type=static", "--ipv4=" + address[0], "--netmask=" + address[1]]


def has_ipv4(interface, row):
    if isinstance(interface.ipv4, tuple):
        return (row.get("Address Type"), row.get("IPv4 Address"), row.get("IPv4 Netmask")) == ("STATIC",) + interface.ipv4
    return row.get("Address Type") == ("DHCP" if interface.ipv4 else "NONE")


def plan_ipv6(interface, vmk, state, fresh):
    name, settings, row = "--interface-name=" + vmk, [], {} if fresh else state.ipv6.get(vmk, {})
    if interface.dhcp6 and row.get("DHCPv6 Enabled") != "true":
        settings += ["--enable-dhcpv6=true", "--peer-dns=true"]
    if interface.router_adv is not None and row.get("Router Adv Enabled") != str(interface.router_adv).lower():
        settings.append("--enable-router-adv=" + str(interface.router_adv).lower())
    steps = [Step(INTERFACE + ["ipv6", "set", name] + settings)] if settings else []
    there = [] if fresh else ["{}/{}".format(r.get("Address"), r.get("Netmask")) for r in state.addresses6
                              if r.get("Interface") == vmk]
    address = INTERFACE + ["ipv6", "address"]
    return steps + [Step(address + ["add", name, "--ipv6=" + a]) for a in interface.ipv6 if a not in there]


def plan_removal(wanted, nics, names, state):
    """What the installation had and MAAS does not want goes when the management network stands."""
    steps, main = [], "--vswitch-name=" + MAIN_SWITCH
    if state.groups.get(OLD_GROUP, (None,))[0] == MAIN_SWITCH:
        group = ["--portgroup-name=" + OLD_GROUP, main]
        steps.append(Step(STANDARD + ["portgroup", "remove"] + group, STANDARD + ["portgroup", "add"] + group))
    for nic in state.uplinks(MAIN_SWITCH):
        if nic not in nics[wanted.uplinks[0]]:
            steps.append(uplink_step("remove", "add", nic, MAIN_SWITCH))
    return steps


def plan_routes(wanted, state, fresh):
    """Routes whose interface is made anew go with the old one."""
    steps = []
    for family, network, gateway in wanted.routes:
        there = [row for row in state.routes[family] if row.get("Interface") not in fresh
                 and row_network(family, row) == network and row.get("Source") != "DHCP"]
        if any(row.get("Gateway") == gateway for row in there):
            continue
        command = ["esxcli", "network", "ip", "route", "ipv{}".format(family)]
        arguments = ["--gateway=" + gateway, "--network=" + network]
        for row in there:
            other = ["--gateway=" + row["Gateway"], "--network=" + network]
            steps.append(Step(command + ["remove"] + other, command + ["add"] + other))
        steps.append(Step(command + ["add"] + arguments, command + ["remove"] + arguments))
    return steps


def row_network(family, row):
    mask = row.get("Netmask", "")
    if row.get("Network") == "default":
        return "default"
    bits = mask if family == 6 else sum(bin(int(part)).count("1") for part in mask.split(".") if part.isdigit())
    return "{}/{}".format(row.get("Network"), bits)


def plan_names(wanted, state, fresh):
    """The list does not tell which servers came with a lease and go with its interface: where
    an interface is made anew, those are added too, which fails for the others."""
    dns, steps = ["esxcli", "network", "ip", "dns"], []
    for kind, option, values, known in (("server", "--server=", wanted.servers, state.servers),
                                        ("search", "--domain=", wanted.search, state.search)):
        for value in values:
            if value not in known or fresh:
                steps.append(Step(dns + [kind, "add", option + value], dns + [kind, "remove", option + value],
                                  may_fail=value in known))
    return steps


def by_name(table):
    return dict((row.get("Name"), row) for row in parse_table(table))


def members(value):
    return [v.strip() for v in (value or "").split(",") if v.strip()]
