"""Brings the network back that the host had before the first boot changed it.

Nothing is undone step by step: a command that was given up may have done its
work all the same, and a run that was killed cannot say how far it came. What
the host has now is compared with what it had, and the difference is removed,
as often as it takes.
"""

import json
import os

from host import AgentError, Step
from network import (INTERFACE, MANAGEMENT, STANDARD, State, add_interface, add_tag, change_address6,
                     change_group, change_name, change_route, remove_interface, row_network, set_ipv4, set_teaming, set_uplink,
                     set_vlan)

TIMEOUT = 30    # seconds for a command
# The programs to try one after the other: localcli works when hostd does not.
PASSES = ("esxcli", "esxcli", "esxcli", "localcli", "localcli")
GENERATED = "00:50:56:"  # the MAC addresses that ESXi makes up


class Record:
    """The old network, kept in a file as long as a run that is killed would leave another one."""

    def __init__(self, path):
        self.path = path
        self.state = None
        self.final = False  # whether the new network stays whatever happens
        self.interrupted = os.path.exists(path)
        if self.interrupted:
            try:
                with open(path, "rb") as f:
                    self.state = State(record=json.loads(f.read().decode("ascii")))
            except (OSError, ValueError):
                pass  # cut short while it was written, before anything was changed

    def write(self, state):
        self.state = state
        try:
            with open(self.path, "wb") as f:
                f.write(json.dumps(state.record()).encode("ascii"))
                f.flush()
                os.fsync(f.fileno())
        except OSError as e:
            raise AgentError("cannot write {}: {}".format(self.path, e))

    def forget(self):
        """The new network stays, even if this program is killed from now on."""
        os.remove(self.path)


def restore(host, before, journal):
    """Brings the network in before back. Returns why that failed, "" if it did not."""
    host.timeout = TIMEOUT
    before = with_own_address(before)
    reason = ""
    for attempt, host.cli in enumerate(PASSES):
        try:
            steps = difference(before, State(host))
        except AgentError as e:
            reason = "with {}: {}".format(host.cli, e)
            journal.say("cannot see the network {}".format(reason))
            continue
        if not steps or attempt and all(step.may_fail for step in steps):
            return ""
        reason = "not done: {}".format(steps[0])
        for step in steps:
            try:
                journal.say("undo: {}".format(step))
                host.run(*step.do)
            except AgentError as e:
                journal.say("cannot undo: {}".format(e))
    return reason


def with_own_address(state):
    """All hosts of an image boot with one MAC address on vmk0, that of the machine the image was
    made on. Two of them would not be reachable, so that vmk0 gets that of its uplink back."""
    changed = State(record=json.loads(json.dumps(state.record())))
    vmk = changed.interfaces.get(MANAGEMENT)
    known = dict((nic["Name"], nic["MAC Address"].lower()) for nic in changed.nics)
    used = [v["MAC Address"].lower() for name, v in changed.interfaces.items() if name != MANAGEMENT]
    uplinks = [known[nic] for nic in changed.uplinks(changed.switch_of(vmk["Portgroup"])) if nic in known] if vmk else []
    own = uplinks and vmk["MAC Address"].lower() not in known.values() and not vmk["MAC Address"].startswith(GENERATED)
    if own and uplinks[0] not in used:
        vmk["MAC Address"] = uplinks[0]
    return changed


def difference(before, now):
    """The steps from now to before: first what is too much goes, then what is missing comes back."""
    moved = [vmk for vmk in sorted(now.interfaces) if place(vmk, now) != place(vmk, before)]
    steps = [Step(command) for command in
             remove_routes(before, now) + [remove_interface(vmk) for vmk in moved]
             + clear_switches(before, now) + fill_switches(before, now)
             + [command for vmk in sorted(before.interfaces)
                for command in restore_interface(vmk, before, now, vmk in moved or vmk not in now.interfaces)]
             + add_routes(before, now)]
    return steps + restore_names(before, now)


def place(vmk, state):
    """All that cannot be changed while an interface is there."""
    v = state.interfaces.get(vmk)
    return v and (v["MAC Address"].lower(), v["MTU"], v["Portgroup"], state.switch_of(v["Portgroup"]))


def clear_switches(before, now):
    commands = [change_group("remove", group, now.switch_of(group)) for group in sorted(now.groups)
                if now.switch_of(group) != before.switch_of(group)]
    for switch in sorted(now.switches):
        commands += [set_uplink("remove", nic, switch) for nic in now.uplinks(switch) if nic not in before.uplinks(switch)]
    return commands + [STANDARD + ["remove", "--vswitch-name=" + switch] for switch in sorted(now.switches)
                       if switch not in before.switches]


def fill_switches(before, now):
    commands = []
    for switch in sorted(before.switches):
        name = "--vswitch-name=" + switch
        commands += [STANDARD + ["add", name]] if switch not in now.switches else []
        commands += [set_uplink("add", nic, switch) for nic in before.uplinks(switch) if nic not in now.uplinks(switch)]
        if before.teaming(switch) != now.teaming(switch) and before.teaming(switch)[1]:
            commands.append(set_teaming(switch, before.teaming(switch)))
        if before.mtu(switch) != now.mtu(switch):
            commands.append(STANDARD + ["set", "--mtu=" + before.mtu(switch), name])
    for group in sorted(before.groups):
        switch, vlan = before.groups[group]
        there = now.switch_of(group) == switch
        commands += [] if there else [change_group("add", group, switch)]
        if vlan != (now.groups[group][1] if there else "0"):
            commands.append(set_vlan(group, vlan))
    return commands


def restore_interface(vmk, before, now, fresh):
    old, commands = before.interfaces[vmk], []
    if fresh:
        commands.append(add_interface(vmk, old["Portgroup"], old["MAC Address"], old["MTU"]))
    there = [] if fresh else now.tags.get(vmk, [])
    commands += [add_tag(vmk, tag) for tag in before.tags.get(vmk, []) if tag not in there]
    if ipv4_of(vmk, before) != (None if fresh else ipv4_of(vmk, now)):
        commands.append(set_ipv4(vmk, *ipv4_of(vmk, before)))
    return commands + restore_ipv6(vmk, before, now, fresh)


def ipv4_of(vmk, state):
    """(address, peer DNS) as set_ipv4 wants them."""
    row = state.ipv4.get(vmk, {})
    address = {"DHCP": "dhcp", "STATIC": (row.get("IPv4 Address"), row.get("IPv4 Netmask"))}.get(row.get("Address Type"))
    return address, row.get("DHCP DNS", "true") if address == "dhcp" else "true"


def restore_ipv6(vmk, before, now, fresh):
    row, new = before.ipv6.get(vmk, {}), {} if fresh else now.ipv6.get(vmk, {})
    defaults = {"DHCPv6 Enabled": "false", "Router Adv Enabled": "true"}  # of a new interface
    settings = [option + row[key] for key, option in (
        ("DHCPv6 Enabled", "--enable-dhcpv6="), ("Router Adv Enabled", "--enable-router-adv="))
        if key in row and row[key] != new.get(key, defaults[key])]
    commands = [INTERFACE + ["ipv6", "set", "--interface-name=" + vmk] + settings] if settings else []
    had, has = own_addresses6(vmk, before), [] if fresh else own_addresses6(vmk, now)
    commands += [change_address6("remove", vmk, a) for a in has if a not in had]
    return commands + [change_address6("add", vmk, a) for a in had if a not in has]


def own_addresses6(vmk, state):
    """Those that were set, not those that an interface makes itself or hears from a router."""
    return ["{}/{}".format(row["Address"], row["Netmask"]) for row in state.addresses6 if row["Interface"] == vmk
            and row.get("Type", "STATIC") == "STATIC" and not row["Address"].startswith("fe80:")]


def static_routes(state):
    return [(family, row_network(family, row), row["Gateway"]) for family in sorted(state.routes)
            for row in state.routes[family] if row.get("Source") != "DHCP" and row["Gateway"] not in ("0.0.0.0", "::", "")]


def remove_routes(before, now):
    return [change_route("remove", *route) for route in static_routes(now) if route not in static_routes(before)]


def add_routes(before, now):
    """Those that go with an interface that is made anew are missing the next time."""
    return [change_route("add", *route) for route in static_routes(before) if route not in static_routes(now)]


def restore_names(before, now):
    """What comes with a lease is in the lists too, and cannot be removed or is back by itself."""
    leased = any(ipv4_of(vmk, before)[0] == "dhcp" for vmk in before.interfaces)
    steps = []
    for kind, old, new in (("server", before.servers, now.servers), ("search", before.search, now.search)):
        steps += [Step(change_name("remove", kind, value), may_fail=True) for value in new if value not in old]
        steps += [Step(change_name("add", kind, value), may_fail=True) for value in old if value not in new and not leased]
    return steps
