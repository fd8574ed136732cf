"""A host for tests of the first-boot agent: programs that answer from real output, and a metadata service.

It does not remember what it is told to change; the simulated host of the repository's other tests does.
"""

import email.utils
import http.server
import json
import os
import re
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

from machine import HERE, PAYLOAD

sys.path.insert(0, os.path.join(PAYLOAD, "firstboot"))

import host  # noqa: E402

# Logs its arguments; prints the file that is named like them; fails if told so.
ESXCLI = """#!/bin/sh
echo "$*" >>"$FAKE/esxcli.log"
if [ -f "$FAKE/fails" ] && [ "$*" = "$(cat "$FAKE/fails")" ]; then echo "Sysinfo error: Busy"; exit 1; fi
if [ -f "$FAKE/hangs" ] && [ "$*" = "$(cat "$FAKE/hangs")" ]; then sleep 60 & sleep 60; fi
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
BACKUP = "#!/bin/sh\necho auto-backup >>\"$FAKE/esxcli.log\"\n"
DEVICES = "naa.55cd2e4000000001\n   Size: 228936\n   Is Boot Device: true\n"
INSTALLED = {
    "network_nic_list": "nic_list.txt",
    "network_vswitch_standard_list": "vswitch_list.installed.txt",
    "network_ip_interface_list": "interface_list.installed.txt",
    "network_ip_dns_search_list": "dns_search_list.empty.txt",
}
# What DHCP on a machine's second NIC takes.
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


# What an installed host says, beside what is in testdata. Empty tables have their header only.
ANSWERS = {
    "network_vswitch_standard_policy_failover_get_--vswitch-name=vSwitch0": FAILOVER,
    "network_vswitch_standard_portgroup_list": GROUPS.format("Management Network"),
    "network_ip_interface_tag_get_--interface-name=vmk0": "   Tags: Management\n",
    "network_ip_interface_ipv4_get": """\
Name  IPv4 Address  IPv4 Netmask   IPv4 Broadcast  Address Type  Gateway      DHCP DNS
----  ------------  -------------  --------------  ------------  -----------  --------
vmk0  172.30.30.40  255.255.255.0  172.30.30.255   DHCP          172.30.30.1      true
""",
    "network_ip_interface_ipv6_get": """\
Name  IPv6 Enabled  DHCPv6 Enabled  Router Adv Enabled  DHCP DNS  Gateway
----  ------------  --------------  ------------------  --------  -------
vmk0          true           false                true     false  ::
""",
    "network_ip_interface_ipv6_address_list": "Interface  Address  Netmask  Type  Status\n---------  -------  -------  ----  ------\n",
    "network_ip_route_ipv4_list": "Network  Netmask  Gateway  Interface  Source\n-------  -------  -------  ---------  ------\n",
    "network_ip_route_ipv6_list": "Network  Netmask  Gateway  Interface  Source\n-------  -------  -------  ---------  ------\n",
    "network_ip_dns_server_list": "   DNSServers: \n",
    "system_version_get": "   Product: VMware ESXi\n   Version: 8.0.3\n",
    "system_hostname_get": "   Domain Name: localdomain\n   Fully Qualified Domain Name: localhost.localdomain\n   Host Name: localhost\n",
    "system_uuid_get": "5d1b5a6e-1c2d-3e4f-5a6b-525400123456\n",
    "storage_core_device_list": DEVICES,
    "system_account_list": "User ID  Description\n-------  -------------\nroot     Administrator\n",
}


class Quiet:
    """A journal that only remembers."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def hide(self, *secrets):
        pass

    def clean(self, text):
        return text


class EsxiTest(unittest.TestCase):
    def setUp(self):
        # In memory: the agent writes each line of its log through to the disk.
        directory = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        for name in ("bin", "answers", "esxid"):
            os.mkdir(os.path.join(self.directory, name))
        programs = {"esxcli": ESXCLI, "localcli": ESXCLI, "partedUtil": PARTED, "vmkfstools": PARTED, "auto-backup.sh": BACKUP}
        for name, text in programs.items():
            self.write("bin/" + name, text)
            os.chmod(os.path.join(self.directory, "bin", name), 0o755)
        path = os.path.join(self.directory, "bin") + ":" + os.environ["PATH"]
        patch = unittest.mock.patch.dict(os.environ, {"PATH": path, "FAKE": self.directory})
        patch.start()
        self.addCleanup(patch.stop)
        self.answer(INSTALLED)
        for name, text in ANSWERS.items():
            self.write("answers/" + name, text)
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
            return "".join(line for line in f if not re.search(" (list|get)( --(vswitch|interface)-name=\\w+)?$", line))

    def host(self, journal=None):
        return host.Host(journal or Quiet(), host.Deadline(600))


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
        text = server.body(self.path) if status == 200 else b"the base string is &SECRET"
        self.send_header("Content-Length", str(0 if status == 204 else len(text)))
        self.end_headers()
        if status != 204:
            self.wfile.write(text[:server.cut])

    do_GET = answer

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *args):
        pass


class MetadataServer(http.server.HTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Service)
        self.requests, self.statuses, self.ahead = [], [], 0
        self.user_data, self.vendor_data = b"", b""
        self.cut = None  # how much of an answer is sent
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def default(self, path):
        return 204 if "/status/" in path else 200 if self.body(path) else 404

    def body(self, path):
        return {"local-hostname": b"esx1.example", "vendor-data": self.vendor_data, "user-data": self.user_data}.get(
            os.path.basename(path), b"")

    def reporting(self):
        endpoint = "http://127.0.0.1:{}/MAAS/metadata/status/x7dq3k".format(self.server_port)
        return {"endpoint": endpoint, "consumer_key": "CK", "token_key": "TK", "token_secret": "SEC&RET"}


class ServerTest(unittest.TestCase):
    def serve(self):
        server = MetadataServer()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server


