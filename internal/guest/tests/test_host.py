"""Commands on the host, and what is read from their output."""

import unittest

from esxi import sample

import host
import network


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
