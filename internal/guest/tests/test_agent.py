"""The first-boot agent as a whole."""

import contextlib
import io
import json
import os
import signal
import unittest
import unittest.mock

from esxi import DHCP_COMMANDS, EsxiTest, ServerTest, sample
from machine import load_config

import agent
import firewall
import host
import identity
import maas
import network

DATASTORE_COMMANDS = """\
partedUtil add /vmfs/devices/disks/naa.55cd2e4000000001 gpt 8 67108864 468862094 AA31E02A400F11DB9590000C2911D1B8 0
vmkfstools -C vmfs6 -S datastore1 /vmfs/devices/disks/naa.55cd2e4000000001:8
"""


class AgentTest(EsxiTest, ServerTest):
    def setUp(self):
        super().setUp()
        self.server = self.serve()
        self.state = os.path.join(self.directory, "esxid")
        patches = [unittest.mock.patch.object(firewall, "RULES", os.path.join(self.directory, "rules.xml")),
                   unittest.mock.patch.object(identity, "ROOT", self.directory),
                   unittest.mock.patch.object(identity, "set_name"),  # programs with absolute paths
                   unittest.mock.patch.object(maas, "PATIENCE", 0)]
        for patch in patches:
            patch.start()
            self.addCleanup(patch.stop)
        self.write("esxid/agent.py", "")
        # vmk0 has its uplink's MAC address, so that nothing has to be done to bring the old network back.
        self.write("answers/network_ip_interface_list",
                   sample("interface_list.installed.txt").replace("52:54:00:12:34:56", "a4:bf:01:4e:37:14"))
        self.configure(load_config("a-dhcp-single-nic"))

    def configure(self, config, **changes):
        document = {"format": 1, "network": config["network"], "storage": config["storage"],
                    "reporting": self.server.reporting(), "ignored": []}
        self.write("esxid/config.json", json.dumps(dict(document, **changes)))
        os.link(os.path.join(self.state, "config.json"), os.path.join(self.directory, "data"))

    def run_agent(self):
        out, handlers = io.StringIO(), [signal.getsignal(number) for number in agent.SIGNALS]
        with contextlib.redirect_stdout(out):
            status = agent.main(self.state)
        for number, handler in zip(agent.SIGNALS, handlers):
            signal.signal(number, handler)
        self.assertEqual(os.listdir(self.state), ["firstboot.log"], "something was left behind")
        self.assertFalse(os.path.exists(firewall.RULES))
        with open(os.path.join(self.directory, "data"), "rb") as f:
            self.assertEqual(f.read().strip(b"\0"), b"", "the credentials were not overwritten")
        with open(os.path.join(self.state, "firstboot.log")) as f:
            log = f.read()
        self.assertNotIn("RET", log + out.getvalue())
        return status, log

    def events(self):
        return [(path.rsplit("/", 1)[1], event and event.get("result")) for _, path, _, event in self.server.requests]

    def test_deploys(self):
        status, log = self.run_agent()
        self.assertEqual((status, self.events()),
                         (0, [("x7dq3k", None), ("public-keys", None), ("local-hostname", None), ("vendor-data", None),
                              ("x7dq3k", "SUCCESS"), ("user-data", None)]), log)
        # The host does not remember the first plan, which is why the second is the same.
        self.assertEqual(self.commands(), "network firewall refresh\n" + 2 * DHCP_COMMANDS + DATASTORE_COMMANDS
                         + "auto-backup\nnetwork firewall refresh\nauto-backup\n")
        self.assertIn("plan: esxcli network ip interface add", log)

    def last_event(self):
        return dict(self.server.requests[-1][3], timestamp=0)

    def test_user_data_runs_when_nothing_else_is_left(self):
        self.server.user_data = "#!/bin/sh\nls {0}; trap; exec echo \"$(dirname $0)\"\n".format(self.state).encode("ascii")
        status, log = self.run_agent()
        self.assertEqual(status, 0)
        self.assertRegex(log, "user-data: firstboot.log\n[^ ]+ user-data: /tmp/esxid-")
        self.assertEqual(self.last_event(), {"event_type": "finish", "origin": "esxid", "name": "esxid-firstboot/user-data",
                                             "description": "user-data was run", "result": "SUCCESS", "timestamp": 0})
        self.assertTrue(self.commands().endswith("network firewall refresh\n" * 2 + "auto-backup\n"), self.commands())

    def test_user_data_that_fails(self):
        for script, reason in ((b"#!/bin/sh\nexit 7\n", "user-data failed with status 7"),
                               (b"#!/usr/bin/perl\n", "its first line is '#!/usr/bin/perl'"),
                               (b"#cloud-config\n", "it is cloud-config")):
            with self.subTest(script):
                os.remove(os.path.join(self.directory, "data"))
                self.configure(load_config("a-dhcp-single-nic"))
                self.server.user_data = script
                status, log = self.run_agent()
                self.assertEqual((status, self.last_event()["result"]), (0, "FAIL"))
                self.assertIn(reason, self.last_event()["description"])
                self.assertIn(reason, log)

    def test_broken_vendor_data_changes_no_disk(self):
        self.server.vendor_data = b"cloud-init: '#cloud-config\n\n  ntp: [\n\n  '\n"
        status, log = self.run_agent()
        self.assertEqual((status, self.events()[-1]), (1, ("x7dq3k", "FAIL")), log)
        self.assertIn("cannot read the cloud-config in vendor-data from MAAS: line 3: ", self.last_event()["description"])
        self.assertNotIn("partedUtil", self.commands())

    def test_vendor_data_that_is_refused(self):
        self.server.vendor_data = (b'cloud-init: "#cloud-config\\nwrite_files: [{path: /etc/passwd, content: x}]\\n"\n')
        status, log = self.run_agent()
        self.assertEqual((status, self.events()[-1]), (1, ("x7dq3k", "FAIL")), log)
        self.assertIn("'/etc/passwd' is not below /altbootbank/maas/", self.last_event()["description"])

    def test_failing_step(self):
        fails = DHCP_COMMANDS.splitlines()[4]
        self.write("fails", fails)
        status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        self.assertIn("Sysinfo error: Busy", self.server.requests[0][3]["description"])
        self.assertIn("failed: esxcli " + fails, log)
        self.assertTrue(self.commands().endswith("network firewall refresh\nauto-backup\n"))

    def test_hanging_step(self):
        self.write("hangs", DHCP_COMMANDS.splitlines()[2])
        with unittest.mock.patch.object(host, "TIMEOUT", 1):
            status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        self.assertIn("portgroup add --portgroup-name=eno1 --vswitch-name=vSwitch0: not done after 1 s",
                      self.server.requests[0][3]["description"])

    def test_no_time_left(self):
        """The old network and MAAS get time of their own."""
        with unittest.mock.patch.object(agent, "WORK", 0), unittest.mock.patch.object(maas, "PATIENCE", 60):
            status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        self.assertIn("the time for the first boot is over", self.server.requests[0][3]["description"])

    def test_hostd_that_does_not_come_up(self):
        """MAAS is told all the same, and nothing is said about a network that was not changed."""
        self.write("bin/esxcli", "#!/bin/sh\necho 'Connect to localhost failed: Connection failure.'; exit 1\n")
        with unittest.mock.patch.object(host, "HOSTD_PATIENCE", 0):
            status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        reason = self.server.requests[0][3]["description"]
        self.assertTrue(reason.startswith("hostd does not answer: ") and "not back" not in reason, reason)

    def test_signal(self):
        """A program that is told to end does what it does after any failure."""
        with unittest.mock.patch.object(network, "plan", side_effect=lambda *args: os.kill(os.getpid(), signal.SIGTERM)):
            status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        self.assertIn("stopped by signal 15", self.server.requests[0][3]["description"])

    def test_second_start_does_not_go_on(self):
        self.write("esxid/network.json", json.dumps(network.State(self.host()).record()))
        status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        self.assertIn("was interrupted and is not resumed", self.server.requests[0][3]["description"])

    def test_second_start_before_the_record_was_complete(self):
        self.write("esxid/network.json", '{"nics": [')
        self.assertEqual(self.run_agent()[0], 1)

    def test_output_that_is_not_understood(self):
        for name in ("network_nic_list", "network_ip_interface_list", "network_vswitch_standard_list",
                     "network_ip_dns_server_list", "system_version_get", "storage_core_device_list"):
            with self.subTest(name):
                del self.server.requests[:]
                path = os.path.join(self.directory, "answers", name)
                with open(path) as f:
                    text = f.read()
                for garbage in ("", "Segmentation fault (core dumped)\n", "a\nb\n\xff\n   c: d\n"):
                    self.write("answers/" + name, garbage)
                    os.remove(os.path.join(self.directory, "data"))
                    self.configure(load_config("a-dhcp-single-nic"))
                    status, log = self.run_agent()
                    self.assertEqual((status, self.events()[-1]), (1, ("x7dq3k", "FAIL")), log)
                    self.assertNotIn("vswitch standard", self.commands())
                self.write("answers/" + name, text)

    def test_full_bank(self):
        """Without a record of the old network nothing is changed."""
        with unittest.mock.patch.object(agent, "RECORD", "none/network.json"):
            status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        self.assertIn("cannot write", self.server.requests[0][3]["description"])

    def test_unsupported_is_told_before_anything_changes(self):
        for name, reason in (("c2-vmfs7-bios-extra-disk", "no network interfaces have the MAC address 02:00:5e:50:00:01"),
                             ("f-unsupported", "mode balance-tlb is not supported")):
            with self.subTest(name):
                del self.server.requests[:]
                os.remove(os.path.join(self.directory, "data"))
                self.configure(load_config(name))
                status, log = self.run_agent()
                self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]), log)
                self.assertIn(reason, self.server.requests[0][3]["description"])
                self.assertNotIn("vswitch standard", self.commands())

    def test_maas_out_of_reach(self):
        self.server.statuses = [503]
        status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", None), ("x7dq3k", "FAIL")]))
        self.assertIn("failed: cannot reach MAAS", log)

    def test_broken_document(self):
        for text, reason in (("{", "cannot read"), ('{"format": 2}', "it has not format 1")):
            with self.subTest(text):
                self.write("esxid/config.json", text)
                os.remove(os.path.join(self.directory, "data"))
                os.link(os.path.join(self.state, "config.json"), os.path.join(self.directory, "data"))
                status, log = self.run_agent()
                self.assertEqual(status, 1)
                self.assertIn(reason, log)

    def test_defect_of_the_agent(self):
        with unittest.mock.patch.object(network, "plan", side_effect=KeyError("x")):
            status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        self.assertIn("failed: unexpected KeyError: 'x'", log)


if __name__ == "__main__":
    unittest.main()
