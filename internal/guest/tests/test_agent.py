"""The first-boot agent, with an esxcli that answers from real output and a metadata service."""

import contextlib
import email.utils
import http.server
import io
import json
import os
import re
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

from machine import HERE, PAYLOAD, load_config

sys.path.insert(0, os.path.join(PAYLOAD, "firstboot"))

import agent      # noqa: E402
import firewall   # noqa: E402
import host       # noqa: E402
import identity   # noqa: E402
import maas       # noqa: E402
import netconfig  # noqa: E402
import network    # noqa: E402

# Logs its arguments; prints the file that is named like them; fails if told so.
ESXCLI = """#!/bin/sh
echo "$*" >>"$FAKE/esxcli.log"
if [ -f "$FAKE/fails" ] && [ "$*" = "$(cat "$FAKE/fails")" ]; then echo "Sysinfo error: Busy"; exit 1; fi
name=$(echo "$*" | tr ' ' _)
if [ -f "$FAKE/answers/$name" ]; then cat "$FAKE/answers/$name"; fi
"""
# partedUtil shows the boot disk; what it and vmkfstools are told to change is logged.
PARTED = """#!/bin/sh
if [ "$1" = getptbl ]; then
	echo gpt && echo 29185 255 63 468862128
	echo 1 64 204863 C12A7328F81F11D2BA4B00A0C93EC93B systemPartition 128
	echo 5 208896 8595455 EBD0A0A2B9E5443387C068B6B72699C7 linuxNative 0
	echo 6 8597504 16984063 EBD0A0A2B9E5443387C068B6B72699C7 linuxNative 0
	echo 7 16986112 67108830 4EB2EA3978554790A79EFAE495E21F8D vmfsl 0
else echo "${0##*/} $*" >>"$FAKE/esxcli.log"; fi
"""
DEVICES = "naa.55cd2e4000000001\n   Size: 228936\n   Is Boot Device: true\n"
DATASTORE_COMMANDS = """\
partedUtil add /vmfs/devices/disks/naa.55cd2e4000000001 gpt 8 67108864 468862094 AA31E02A400F11DB9590000C2911D1B8 0
vmkfstools -C vmfs6 -S datastore1 /vmfs/devices/disks/naa.55cd2e4000000001:8
"""
INSTALLED = {
    "network_nic_list": "nic_list.txt",
    "network_vswitch_standard_list": "vswitch_list.installed.txt",
    "network_ip_interface_list": "interface_list.installed.txt",
    "network_ip_dns_search_list": "dns_search_list.empty.txt",
}
DHCP_COMMANDS = """\
network vswitch standard uplink add --uplink-name=vmnic1 --vswitch-name=vSwitch0
network vswitch standard policy failover set --vswitch-name=vSwitch0 --load-balancing=portid --active-uplinks=vmnic1
network vswitch standard portgroup add --portgroup-name=eno1 --vswitch-name=vSwitch0
network ip interface remove --interface-name=vmk0
network ip interface add --interface-name=vmk0 --portgroup-name=eno1 --mac-address=02:00:5e:10:00:01 --mtu=1500
network ip interface tag add --interface-name=vmk0 --tagname=Management
network ip interface ipv4 set --interface-name=vmk0 --type=dhcp --peer-dns=true
network vswitch standard portgroup remove --portgroup-name=Management Network --vswitch-name=vSwitch0
network vswitch standard uplink remove --uplink-name=vmnic0 --vswitch-name=vSwitch0
"""
UNDO_COMMANDS = """\
network ip interface add --interface-name=vmk0 --portgroup-name=Management Network --mac-address=52:54:00:12:34:56 --mtu=1500
network ip interface ipv4 set --interface-name=vmk0 --type=dhcp --peer-dns=true
network ip interface tag add --interface-name=vmk0 --tagname=Management
network vswitch standard portgroup remove --portgroup-name=eno1 --vswitch-name=vSwitch0
network vswitch standard policy failover set --vswitch-name=vSwitch0 --load-balancing=portid --active-uplinks=vmnic0
network vswitch standard uplink remove --uplink-name=vmnic1 --vswitch-name=vSwitch0
"""
FAILOVER = "   Load Balancing: srcport\n   Active Adapters: vmnic0\n   Standby Adapters: \n"
GROUPS = """\
Name                Virtual Switch  Active Clients  VLAN ID
------------------  --------------  --------------  -------
{:18}  vSwitch0                     1        0
VM Network          vSwitch0                     0        0
"""


def sample(name):
    with open(os.path.join(HERE, "../testdata/esxcli", name)) as f:
        return f.read()


class Quiet:
    """A journal nobody reads."""

    def say(self, text):
        pass


class EsxiTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        for name in ("bin", "answers", "esxid"):
            os.mkdir(os.path.join(self.directory, name))
        for name, text in (("esxcli", ESXCLI), ("partedUtil", PARTED), ("vmkfstools", PARTED), ("auto-backup.sh", "#!/bin/sh\necho auto-backup >>\"$FAKE/esxcli.log\"\n")):
            self.write("bin/" + name, text)
            os.chmod(os.path.join(self.directory, "bin", name), 0o755)
        path = os.path.join(self.directory, "bin") + ":" + os.environ["PATH"]
        patch = unittest.mock.patch.dict(os.environ, {"PATH": path, "FAKE": self.directory})
        patch.start()
        self.addCleanup(patch.stop)
        self.answer(INSTALLED)
        self.write("answers/network_vswitch_standard_policy_failover_get_--vswitch-name=vSwitch0", FAILOVER)
        self.write("answers/network_vswitch_standard_portgroup_list", GROUPS.format("Management Network"))
        self.write("answers/system_version_get", "   Product: VMware ESXi\n   Version: 8.0.3\n")
        self.write("answers/storage_core_device_list", DEVICES)
        # The second NIC of the sample gets the MAC address of the configuration.
        self.write("answers/network_nic_list", sample("nic_list.txt").replace("a4:bf:01:4e:37:15", "02:00:5e:10:00:01"))

    def write(self, name, text):
        with open(os.path.join(self.directory, name), "w") as f:
            f.write(text)

    def answer(self, names):
        for command, file in names.items():
            self.write("answers/" + command, sample(file))

    def commands(self):
        """What esxcli was told to change."""
        with open(os.path.join(self.directory, "esxcli.log")) as f:
            return "".join(line for line in f if not re.search(" (list|get)( --vswitch-name=vSwitch0)?$", line))


class NetworkTest(EsxiTest):
    def plan(self, config):
        steps = network.plan(netconfig.read(config), network.State(host.Host(Quiet())))
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
        self.assertEqual([c.partition(" dns ")[2] for c in plan if " dns " in c], [
            "server add --server=10.0.0.3", "server add --server=10.0.0.2",
            "search add --domain=maas", "search add --domain=lab.example"])

    def test_nothing_to_do(self):
        """As it is when the agent runs a second time."""
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
        self.assertEqual(self.plan(config), "")

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
                               ({"routes": [{}]}, "no destination or no gateway"),
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
        self.write("answers/network_vswitch_standard_list", switches)
        self.assertIn(take, self.plan(load_config("a-dhcp-single-nic")["network"]))
        self.write("answers/network_vswitch_standard_list", switches.replace(", vmnic1", ""))
        self.assertNotIn(take, self.plan(load_config("a-dhcp-single-nic")["network"]))


class Clock:
    """time, without the waiting."""

    def __init__(self, offset=0):
        self.offset, self.slept = offset, 0

    def time(self):
        return time.time() + self.offset

    def monotonic(self):
        return self.slept

    def sleep(self, seconds):
        self.slept += seconds


class Service(http.server.BaseHTTPRequestHandler):
    """MAAS's metadata service, as far as it matters here."""

    def answer(self, body=b""):
        server = self.server
        fields = dict(re.findall(r'(\w+)="([^"]*)"', self.headers["Authorization"]))
        server.requests.append((self.command, self.path, fields, json.loads(body.decode()) if body else None))
        status = server.statuses.pop(0) if server.statuses else server.default(self.path)
        if int(fields["oauth_timestamp"]) < time.time() + server.ahead - 300:
            status = 401
        self.send_response_only(status)
        self.send_header("Date", email.utils.formatdate(time.time() + server.ahead, usegmt=True))
        if status == 301:
            self.send_header("Location", "http://127.0.0.1:9/")
        text = (b"esx1.example" if "name" in self.path else server.user_data) if status == 200 else b"the base string is &SECRET"
        self.send_header("Content-Length", str(0 if status == 204 else len(text)))
        self.end_headers()
        if status != 204:
            self.wfile.write(text)

    do_GET = answer

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *args):
        pass


class MetadataServer(http.server.HTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Service)
        self.requests, self.statuses, self.ahead, self.user_data = [], [], 0, b""
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def default(self, path):
        return 204 if "/status/" in path else 200 if self.user_data or path.endswith("/local-hostname") else 404

    def reporting(self):
        endpoint = "http://127.0.0.1:{}/MAAS/metadata/status/x7dq3k".format(self.server_port)
        return {"endpoint": endpoint, "consumer_key": "CK", "token_key": "TK", "token_secret": "SEC&RET"}


class ServerTest(unittest.TestCase):
    def serve(self):
        server = MetadataServer()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server


class MaasTest(ServerTest):
    def client(self, server, clock=None):
        return maas.Client(server.reporting(), Quiet(), clock or Clock())

    def test_event(self):
        server = self.serve()
        self.client(server).report("finish", "name", "why \u00fc" + "x" * 2000, "FAIL")
        method, path, fields, event = server.requests[0]
        self.assertEqual((method, path), ("POST", "/MAAS/metadata/status/x7dq3k"))
        self.assertEqual((event["event_type"], event["name"], event["result"]), ("finish", "name", "FAIL"))
        self.assertTrue(event["description"].startswith("why \u00fcx") and len(event["description"]) == 1000)
        self.assertEqual(fields["oauth_signature"], "%26SEC%2526RET")
        self.assertEqual((fields["oauth_consumer_key"], fields["oauth_token"]), ("CK", "TK"))

    def test_patience(self):
        server, clock = self.serve(), Clock()
        server.statuses = [503, 500, 429]
        self.client(server, clock).report("start", "name", "text")
        self.assertEqual((len(server.requests), clock.slept), (4, 1 + 2 + 4))
        nonces = [fields["oauth_nonce"] for _, _, fields, _ in server.requests]
        self.assertEqual(len(set(nonces)), 4)

    def test_nobody_there(self):
        server, clock = self.serve(), Clock()
        client = self.client(server, clock)
        client.endpoint = "http://127.0.0.1:1/MAAS/metadata/status/x"
        with self.assertRaises(maas.Unreachable) as caught:
            client.report("start", "name", "text")
        self.assertIn("Connection refused", str(caught.exception))
        self.assertTrue(800 < clock.slept <= maas.PATIENCE)

    def test_clock_behind(self):
        server = self.serve()
        server.ahead = 7200
        self.client(server).report("start", "name", "text")
        self.assertEqual(len(server.requests), 2)
        self.assertAlmostEqual(server.requests[1][3]["timestamp"], time.time(), delta=60)  # made before the correction

    def test_refused_key(self):
        server = self.serve()
        server.statuses = [401, 401, 401]
        with self.assertRaises(host.AgentError) as caught:
            self.client(server).report("start", "name", "text")
        self.assertEqual(str(caught.exception), "MAAS answered an event with status 401")
        self.assertEqual(len(server.requests), 1)

    def test_redirects_are_not_followed(self):
        server = self.serve()
        server.statuses = [301]
        with self.assertRaises(host.AgentError) as caught:
            self.client(server).report("start", "name", "text")
        self.assertIn("status 301", str(caught.exception))

    def test_unusable_endpoints(self):
        for endpoint in ("", "ftp://x/status/y", "http:///status/y", "http://maas/MAAS/", None):
            with self.subTest(endpoint), self.assertRaises(host.AgentError):
                maas.Client({"endpoint": endpoint}, Quiet())


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
        self.configure(load_config("a-dhcp-single-nic"))

    def configure(self, config, **changes):
        document = {"format": 1, "network": config["network"], "storage": config["storage"],
                    "reporting": self.server.reporting(), "ignored": []}
        self.write("esxid/config.json", json.dumps(dict(document, **changes)))
        os.link(os.path.join(self.state, "config.json"), os.path.join(self.directory, "data"))

    def run_agent(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = agent.main(self.state)
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
                         (0, [("x7dq3k", None), ("public-keys", None), ("local-hostname", None), ("x7dq3k", "SUCCESS"),
                              ("user-data", None)]), log)
        self.assertEqual(self.commands(), "network firewall refresh\n" + DHCP_COMMANDS + DATASTORE_COMMANDS
                         + "auto-backup\nnetwork firewall refresh\nauto-backup\n")
        self.assertIn("plan: esxcli network ip interface add", log)

    def test_user_data_is_not_run_and_that_is_said(self):
        self.server.user_data = b"#!/bin/sh\n"
        status, log = self.run_agent()
        self.assertEqual(status, 0)
        self.assertIn("user-data is not supported yet: 10 bytes were not run", log)

    def test_failing_step_is_undone(self):
        fails = DHCP_COMMANDS.splitlines()[4]
        self.write("fails", fails)
        status, log = self.run_agent()
        done = "".join(line + "\n" for line in DHCP_COMMANDS.splitlines()[:5])
        self.assertEqual(self.commands(), "network firewall refresh\n" + done + UNDO_COMMANDS + "network firewall refresh\n")
        self.assertEqual((status, self.events()), (1, [("x7dq3k", "FAIL")]))
        self.assertIn("Sysinfo error: Busy", self.server.requests[0][3]["description"])
        self.assertIn("failed: esxcli " + fails, log)

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
                self.assertNotIn("vswitch standard uplink", self.commands())

    def test_maas_out_of_reach_brings_the_old_network_back(self):
        self.server.statuses = [503]
        status, log = self.run_agent()
        self.assertEqual((status, self.events()), (1, [("x7dq3k", None), ("x7dq3k", "FAIL")]))
        self.assertIn(UNDO_COMMANDS, self.commands())
        self.assertIn("failed: cannot reach MAAS", log)

    def test_broken_document(self):
        for text, reason in (("{", "cannot read"), ('{"format": 2}', "its format is 2")):
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
