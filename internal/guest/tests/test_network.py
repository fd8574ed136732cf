"""MAAS's network configuration, and the plan for it."""

import copy
import functools
import os
import unittest

from esxi import DHCP_COMMANDS, FAILOVER, GROUPS, EsxiTest, sample
from machine import CONFIGS, load_config

import host
import netconfig
import network


class NetworkTest(EsxiTest):
    def plan(self, config):
        steps = network.plan(netconfig.read(config), network.State(self.host()))
        return "".join(" ".join(step.do[1:]) + "\n" for step in steps)

    def static(self, **subnet):
        subnet = dict({"type": "static", "address": "10.0.0.5/22", "gateway": "10.0.0.1"}, **subnet)
        return {"version": 1, "config": [{"type": "physical", "name": "eno1", "mtu": 9000,
                                          "mac_address": "02:00:5E:10:00:01", "subnets": [subnet]}]}

    def test_dhcp(self):
        self.assertEqual(self.plan(load_config("a-dhcp-single-nic")["network"]), DHCP_COMMANDS)

    def test_static(self):
        config = self.static(dns_nameservers=["10.0.0.2"], dns_search=["lab.example", "maas"])
        config["config"].append({"type": "nameserver", "address": ["10.0.0.3", "10.0.0.2"], "search": ["maas"]})
        plan = self.plan(config).splitlines()
        for command in (
                "network vswitch standard set --mtu=9000 --vswitch-name=vSwitch0",
                "network ip interface ipv4 set --interface-name=vmk0 --type=static --ipv4=10.0.0.5 --netmask=255.255.252.0",
                "network ip route ipv4 add --gateway=10.0.0.1 --network=default"):
            self.assertIn(command, plan)
        self.assertNotIn(" dns ", "".join(plan), "the old lease's servers are still in the list")

    def deployed(self):
        """The host as it is after a first run, and the configuration that has made it so."""
        self.answer({"network_vswitch_standard_list": "vswitch_list.deployed.txt",
                     "network_ip_interface_ipv4_get": "ipv4_get.static.txt",
                     "network_ip_route_ipv4_list": "route_list.txt",
                     "network_ip_dns_server_list": "dns_server_list.txt",
                     "network_ip_dns_search_list": "dns_search_list.txt"})
        interface = sample("interface_list.installed.txt").replace("Management Network", "eno1")
        self.write("answers/network_ip_interface_list", interface.replace("52:54:00:12:34:56", "A4:BF:01:4E:37:14"))
        self.write("answers/network_vswitch_standard_portgroup_list", GROUPS.format("eno1"))
        config = self.static(address="172.30.30.176/24", gateway="172.30.30.1", dns_nameservers=["8.8.8.8"],
                             dns_search=["localdomain"])
        config["config"][0].update(mac_address="a4:bf:01:4e:37:14", mtu=1500)
        return config

    def test_nothing_to_do(self):
        """As it is when the agent runs a second time."""
        self.assertEqual(self.plan(self.deployed()), "")

    def test_names_of_subnets_and_of_the_whole(self):
        config = self.deployed()
        config["config"][0]["subnets"][0].update(dns_nameservers=["10.0.0.2", "2001:DB8::2"], dns_search=["lab.example", "maas"])
        config["config"].append({"type": "nameserver", "address": ["8.8.8.8", "10.0.0.3", "10.0.0.2"], "search": ["maas"]})
        self.assertEqual([c.partition(" dns ")[2] for c in self.plan(config).splitlines()], [
            "server add --server=10.0.0.3", "server add --server=10.0.0.2", "server add --server=2001:db8::2",
            "search add --domain=maas", "search add --domain=lab.example"])

    def test_unsupported(self):
        config = load_config("f-unsupported")["network"]
        with self.assertRaises(host.AgentError) as caught:
            netconfig.read(config)
        self.assertEqual(str(caught.exception), "bond bond0: mode balance-tlb is not supported")
        network_ = netconfig.read(config, lenient=True)
        self.assertEqual([u.teaming for u in network_.uplinks], ["portid"])
        self.assertEqual(network_.notes, ["bond bond0: mode balance-tlb is replaced by teaming portid",
                                          "bridge br0 is left out, with all that is configured on it"])

    def test_wrong_values(self):
        for change, reason in (({"address": "10.0.0.5"}, "prefix length"), ({"address": "10.0.0.5/33"}, "prefix length"),
                               ({"address": "10.0.0.256/24"}, "not an IP address"), ({"gateway": "x"}, "not an IP"),
                               ({"address": None}, "address is None"), ({"address": "None/24"}, "not an IP address"),
                               ({"gateway": "10.9.0.1"}, "is in no subnet"), ({"type": "odd"}, "type odd is not"),
                               ({"routes": [{}]}, "has no destination, no gateway"),
                               ({"routes": [{"destination": "10.9.0.0/16", "gateway": "fe80::1"}]}, "of another kind")):
            with self.subTest(change), self.assertRaises(host.AgentError) as caught:
                netconfig.read(self.static(**change))
            self.assertIn(reason, str(caught.exception))
        for change, reason in (({"mac_address": "02:00"}, "not a MAC"), ({"mtu": "9000"}, "MTU"), ({"mtu": 90000}, "MTU"),
                               ({"name": ""}, "name is ''"), ({"type": "infiniband"}, "infiniband are not supported")):
            config = self.static()
            config["config"][0].update(change)
            with self.subTest(change), self.assertRaises(host.AgentError) as caught:
                netconfig.read(config)
            self.assertIn(reason, str(caught.exception))

    def test_mtu_absent_is_the_default(self):
        config = self.static()
        config["config"][0]["mtu"] = None
        self.assertEqual(netconfig.read(config).uplinks[0].mtu, 1500)

    def test_routes_once(self):
        wanted = netconfig.read(load_config("e-bond-active-backup-ipv6-routes")["network"])
        self.assertEqual(wanted.routes, [
            (4, "default", "10.60.0.1"), (6, "default", "2001:db8:60::1"), (4, "10.99.8.0/21", "10.60.0.253"),
            (4, "172.20.0.0/14", "10.60.0.254"), (4, "192.168.200.0/24", "10.62.0.254"),
            (6, "2001:db8:f00::/40", "2001:db8:60::fe")])

    def test_unknown_bond_member(self):
        config = load_config("b-bond-vlans-static")["network"]
        config["config"][2]["bond_interfaces"] = ["ens1f0", "ens9"]
        with self.assertRaises(host.AgentError) as caught:
            netconfig.read(config)
        self.assertEqual(str(caught.exception), "bond bond0: its member ens9 is no physical interface")

    def test_unknown_mac_names_what_there_is(self):
        with self.assertRaises(host.AgentError) as caught:
            self.plan(load_config("c-vmfs6-extra-disks")["network"])
        self.assertIn("no network interfaces have the MAC address", str(caught.exception))
        self.assertIn("vmnic0 a4:bf:01:4e:37:14", str(caught.exception))

    def test_nic_of_another_switch(self):
        """A NIC whose name begins like another's is not mistaken for it."""
        switches = sample("vswitch_list.two.txt").replace("vmnic32", "vmnic10, vmnic1")
        take = "uplink remove --uplink-name=vmnic1 --vswitch-name=storage"
        self.write("answers/network_vswitch_standard_policy_failover_get_--vswitch-name=storage", FAILOVER)
        self.write("answers/network_vswitch_standard_list", switches)
        self.assertIn(take, self.plan(load_config("a-dhcp-single-nic")["network"]))
        self.write("answers/network_vswitch_standard_list", switches.replace(", vmnic1", ""))
        self.assertNotIn(take, self.plan(load_config("a-dhcp-single-nic")["network"]))


# What may be in the place of any value of MAAS's.
ODD = (None, True, 0, -1, 4096, 1 << 70, 1.5, "", "x", "10.0.0.1/99", "fe80::1%vmk0", "\u00b2/\u00b2", [], [None], [[]], {}, {"type": "dhcp"})


def places(value, path=()):
    """The paths of all values in a JSON document."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        for place in places(value[key], path + (key,)):
            yield place


class HostileTest(unittest.TestCase):
    def test_any_value_may_be_another(self):
        """Either it is understood, or the reason is for an operator; nothing in between."""
        for name in sorted(name[:-5] for name in os.listdir(CONFIGS) if name.endswith(".json")):
            section = load_config(name)["network"]
            for path in places(section):
                for odd in ODD:
                    changed = copy.deepcopy(section)
                    parent = functools.reduce(lambda value, key: value[key], path[:-1], changed)
                    if path:
                        parent[path[-1]] = odd
                    else:
                        changed = odd
                    with self.subTest(name, path=path, value=odd):
                        try:
                            self.assertIsInstance(netconfig.read(changed), netconfig.Network)
                        except host.AgentError as e:
                            self.assertTrue(str(e))

    def test_any_key_may_be_missing(self):
        for name in ("b-bond-vlans-static", "e-bond-active-backup-ipv6-routes"):
            section = load_config(name)["network"]
            for path in places(section):
                if not path or not isinstance(path[-1], str):
                    continue
                changed = copy.deepcopy(section)
                del functools.reduce(lambda value, key: value[key], path[:-1], changed)[path[-1]]
                with self.subTest(name, path=path):
                    try:
                        netconfig.read(changed)
                    except host.AgentError as e:
                        self.assertTrue(str(e))


if __name__ == "__main__":
    unittest.main()
