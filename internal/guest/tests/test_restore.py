"""The way back to the old network."""

import json
import os
import unittest
import unittest.mock

from esxi import EsxiTest, Quiet

import network
import restore

STATIC = {"Name": "vmk0", "IPv4 Address": "10.0.0.5", "IPv4 Netmask": "255.255.255.0", "Address Type": "STATIC", "DHCP DNS": "false"}


class RestoreTest(EsxiTest):
    def state(self, **changes):
        """The installed host's, as a record keeps it, with changes."""
        record = json.loads(json.dumps(network.State(self.host()).record()))
        record.update(changes)
        return network.State(record=record)

    def commands(self, before, now):
        return [str(step).replace("esxcli network ", "") for step in restore.difference(before, now)]

    def test_nothing(self):
        self.assertEqual(self.commands(self.state(), self.state()), [])

    def test_static_network(self):
        """Addresses, routes, name servers and tags of an image that was not made with DHCP."""
        route = {"Network": "default", "Netmask": "0.0.0.0", "Gateway": "10.0.0.1", "Interface": "vmk0", "Source": "MANUAL"}
        own = {"Network": "10.0.0.0", "Netmask": "255.255.255.0", "Gateway": "0.0.0.0", "Interface": "vmk0", "Source": "MANUAL"}
        address6 = {"Interface": "vmk0", "Address": "2001:db8::5", "Netmask": "64", "Type": "STATIC"}
        before = self.state(ipv4={"vmk0": STATIC}, routes={"ipv4": [route, own], "ipv6": []}, addresses6=[address6],
                            servers=["10.0.0.2"], search=["lab"], tags={"vmk0": ["Management", "VMotion"]})
        now = self.state(interfaces={}, ipv4={}, ipv6={}, tags={}, servers=["10.9.9.9"])
        self.assertEqual(self.commands(before, now), [
            "ip interface add --interface-name=vmk0 --portgroup-name=Management Network --mac-address=52:54:00:12:34:56 --mtu=1500",
            "ip interface tag add --interface-name=vmk0 --tagname=Management",
            "ip interface tag add --interface-name=vmk0 --tagname=VMotion",
            "ip interface ipv4 set --interface-name=vmk0 --type=static --ipv4=10.0.0.5 --netmask=255.255.255.0",
            "ip interface ipv6 address add --interface-name=vmk0 --ipv6=2001:db8::5/64",
            "ip route ipv4 add --gateway=10.0.0.1 --network=default",
            "ip dns server remove --server=10.9.9.9", "ip dns server add --server=10.0.0.2", "ip dns search add --domain=lab"])

    def test_all_that_is_too_much_goes_first(self):
        before = self.state()
        now = self.state(groups=dict(before.groups, eno1=["vSwitch1", "5"]),
                         switches=dict(before.switches, vSwitch1={"Uplinks": "vmnic0", "MTU": "9000"},
                                       vSwitch0=dict(before.switches["vSwitch0"], Uplinks="", MTU="9000")),
                         interfaces=dict(before.interfaces, vmk1={"MAC Address": "x", "MTU": "1500", "Portgroup": "eno1"}),
                         policies={"vSwitch0": ["iphash", [], []], "vSwitch1": ["portid", ["vmnic0"], []]})
        standard = "vswitch standard "
        self.assertEqual(self.commands(before, now), [
            "ip interface remove --interface-name=vmk1",
            standard + "portgroup remove --portgroup-name=eno1 --vswitch-name=vSwitch1",
            standard + "uplink remove --uplink-name=vmnic0 --vswitch-name=vSwitch1",
            standard + "remove --vswitch-name=vSwitch1",
            standard + "uplink add --uplink-name=vmnic0 --vswitch-name=vSwitch0",
            standard + "policy failover set --vswitch-name=vSwitch0 --load-balancing=portid --active-uplinks=vmnic0",
            standard + "set --mtu=1500 --vswitch-name=vSwitch0"])

    def test_addresses_that_nobody_set_stay(self):
        given = [{"Interface": "vmk0", "Address": "fe80::1", "Netmask": "64", "Type": "STATIC"},
                 {"Interface": "vmk0", "Address": "2001:db8::9", "Netmask": "64", "Type": "AUTO"}]
        leased = {"Network": "default", "Netmask": "0.0.0.0", "Gateway": "10.0.0.1", "Interface": "vmk0", "Source": "DHCP"}
        now = self.state(addresses6=given, routes={"ipv4": [leased], "ipv6": []})
        self.assertEqual(self.commands(self.state(), now), [])

    def test_own_address(self):
        """vmk0 does not get the address back that all hosts of the image have, but its uplink's."""
        mac = self.state().nics[0]["MAC Address"]
        self.assertEqual(restore.with_own_address(self.state()).interfaces["vmk0"]["MAC Address"], mac)
        for kept in ("00:50:56:60:00:01", "02:00:5e:10:00:01"):  # ESXi's, and another NIC's
            state = self.state()
            state.interfaces["vmk0"]["MAC Address"] = kept
            self.assertEqual(restore.with_own_address(state).interfaces["vmk0"]["MAC Address"], kept)
        state = self.state()
        state.interfaces["vmk1"] = dict(state.interfaces["vmk0"], **{"MAC Address": mac})
        self.assertNotEqual(restore.with_own_address(state).interfaces["vmk0"]["MAC Address"], mac, "vmk1 has it")

    def test_gives_up_and_says_so(self):
        """The host does not remember what it is told, so that it never is as it was."""
        journal, before = Quiet(), self.state(ipv4={"vmk0": STATIC})
        reason = restore.restore(self.host(journal), before, journal)
        self.assertTrue(reason.startswith("not done: esxcli network ip interface"), reason)
        self.assertEqual(sum("undo: " in line and "ipv4 set" in line for line in journal.lines), len(restore.PASSES))

    def test_with_localcli(self):
        before = self.state()
        before.interfaces["vmk0"]["MAC Address"] = "00:50:56:60:00:01"
        self.write("answers/network_ip_interface_list", "")
        with unittest.mock.patch.object(restore, "difference", return_value=[]):
            self.write("bin/esxcli", "#!/bin/sh\necho 'Connect to localhost failed: Connection failure.'; exit 1\n")
            machine = self.host()
            self.assertEqual((restore.restore(machine, before, Quiet()), machine.cli), ("", "localcli"))


class RecordTest(EsxiTest):
    def test_record(self):
        path = os.path.join(self.directory, "network.json")
        record = restore.Record(path)
        self.assertEqual((record.interrupted, record.state), (False, None))
        state = network.State(self.host())
        record.write(state)
        again = restore.Record(path)
        self.assertTrue(again.interrupted)
        self.assertEqual(restore.difference(again.state, state) + restore.difference(state, again.state), [])
        again.forget()
        self.assertFalse(restore.Record(path).interrupted)

    def test_cut_short(self):
        path = os.path.join(self.directory, "network.json")
        for text in ("", "{", "\xff"):
            self.write("network.json", text)
            record = restore.Record(path)
            self.assertEqual((record.interrupted, record.state), (True, None))


if __name__ == "__main__":
    unittest.main()
