"""Commands on the host, and what is read from their output."""

import contextlib
import io
import os
import re
import time
import unittest
import unittest.mock

from esxi import Clock, EsxiTest, Quiet, sample

import firewall
import host
import network
from journal import Journal


class CommandTest(EsxiTest):
    def program(self, body):
        self.write("bin/tool", "#!/bin/sh\n" + body + "\n")
        os.chmod(os.path.join(self.directory, "bin/tool"), 0o755)

    def fails(self, machine, *argv):
        with self.assertRaises(host.AgentError) as caught:
            machine.run(*argv)
        return str(caught.exception)

    def test_output(self):
        self.program("cat; echo err >&2; echo $LC_ALL")
        self.assertEqual(self.host().run("tool", answer=b"0\n"), "0\nerr\nC\n")
        self.assertEqual(self.host().run("tool"), "err\nC\n")

    def test_failures(self):
        self.program("echo 'no   such'; echo thing; exit 3")
        self.assertEqual(self.fails(self.host(), "tool", "-x"), "tool -x: failed with status 3: no such thing")
        self.assertIn("cannot run nonsense", self.fails(self.host(), "nonsense"))
        self.program("head -c 100000 /dev/zero | tr '\\0' x; exit 1")
        self.assertLess(len(self.fails(self.host(), "tool")), 500)

    def test_service_that_keeps_the_output_open(self):
        """As hostd does when its script starts it."""
        self.program("sleep 30 & echo started")
        begin = time.monotonic()
        self.assertEqual(self.host().run("tool"), "started\n")
        self.assertLess(time.monotonic() - begin, 15)

    def test_hanging_command_ends_with_its_children(self):
        self.program('sleep 30 & echo $! >"$FAKE/child"; wait')
        machine = self.host()
        machine.timeout = 0.5
        self.assertIn("not done after", self.fails(machine, "tool"))
        with open(os.path.join(self.directory, "child")) as f:
            child = int(f.read())
        for _ in range(100):  # until the kernel has ended it
            try:
                with open("/proc/{}/stat".format(child)) as f:
                    if f.read().split()[2] == "Z":
                        return
            except OSError:
                return
            time.sleep(0.05)
        self.fail("the child is still there")

    def test_not_started_when_the_time_is_over(self):
        machine = host.Host(Quiet(), host.Deadline(0))
        self.assertIn("the time for the first boot is over", self.fails(machine, "tool"))

    def test_hostd_that_is_late(self):
        clock = Clock()
        machine = host.Host(Quiet(), host.Deadline(600, clock))
        answers = [host.AgentError("Connection failure")] * 3 + ["Version: 8"]
        with unittest.mock.patch.object(machine, "esxcli", side_effect=answers):
            self.assertEqual(machine.wait_for_hostd(), "Version: 8")
        with unittest.mock.patch.object(machine, "esxcli", side_effect=host.AgentError("Connection failure")):
            with self.assertRaises(host.AgentError) as caught:
                machine.wait_for_hostd()
        self.assertIn("hostd does not answer", str(caught.exception))
        self.assertTrue(host.HOSTD_PATIENCE <= clock.slept < host.HOSTD_PATIENCE + 20, clock.slept)

    def test_output_that_is_not_understood(self):
        for text in ("", "Segmentation fault\n", "-- -\nx\n", "Name  MAC\n----  ---\nvmnic0  x\n"):
            self.write("answers/network_nic_list", text)
            with self.subTest(text), self.assertRaises(host.AgentError) as caught:
                self.host().table(["Name", "MAC Address"], "network", "nic", "list")
            self.assertIn("cannot understand esxcli network nic list", str(caught.exception))


class FirewallTest(EsxiTest):
    def setUp(self):
        super().setUp()
        patch = unittest.mock.patch.object(firewall, "RULES", os.path.join(self.directory, "rules.xml"))
        patch.start()
        self.addCleanup(patch.stop)

    def test_one_port_for_the_time_of_the_body(self):
        with firewall.outbound(self.host(), 5248):
            with open(firewall.RULES) as f:
                rules = f.read()
        self.assertEqual(re.findall("<(direction|protocol|porttype|port)>([^<]*)<", rules),
                         [("direction", "outbound"), ("protocol", "tcp"), ("porttype", "dst"), ("port", "5248")])
        self.assertFalse(os.path.exists(firewall.RULES))

    def test_closed_after_a_failure_and_the_first_cause_counts(self):
        self.write("fails", "network firewall refresh")
        with self.assertRaises(KeyError):
            with firewall.outbound(self.host(), 5248):
                raise KeyError("x")
        self.assertFalse(os.path.exists(firewall.RULES))


class JournalTest(unittest.TestCase):
    def test_log_that_cannot_be_written(self):
        """A full bank or a console that is none stop nothing."""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            Journal("/dev/full", "/nonsense/console").say("text \u00fc")
            Journal("/nonsense/log", "/dev/full").say("more")
        self.assertEqual(out.getvalue(), "esxid: text \\xfc\nesxid: more\n")


class ParserTest(unittest.TestCase):
    def test_table(self):
        rows = host.parse_table(sample("nic_list.txt"))
        self.assertEqual([row["Name"] for row in rows], ["vmnic0", "vmnic1"])
        self.assertEqual(rows[1]["Link Status"], "Down")
        self.assertEqual(rows[1]["Description"], "Intel(R) Ethernet Controller X540-AT2")
        self.assertEqual(host.parse_table(""), [])

    def test_blocks(self):
        blocks = host.parse_blocks(sample("vswitch_list.two.txt"))
        self.assertEqual(sorted(blocks), ["storage", "vSwitch0"])
        self.assertEqual(blocks["vSwitch0"]["Beacon Required By"], "")
        self.assertEqual(network.members(blocks["vSwitch0"]["Portgroups"])[1], "VM Network")

    def test_list(self):
        self.assertEqual(host.parse_list(sample("dns_search_list.txt")), ["localdomain", "intra.rtfmp.com"])
        self.assertEqual(host.parse_list(sample("dns_search_list.empty.txt")), [])


if __name__ == "__main__":
    unittest.main()
