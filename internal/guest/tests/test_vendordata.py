"""What MAAS's vendor-data asks for: files, NTP, and what is refused."""

import base64
import gzip
import json
import os
import tempfile
import unittest
import unittest.mock

from esxi import EsxiTest, Quiet
from test_cloudconfig import sample

import host
import ntp
import vendordata


def wrap(config):
    """cloud-config as MAAS sends it."""
    return "cloud-init: " + json.dumps("#cloud-config\n" + config) + "\n"


def read(text):
    return vendordata.read(text, None, Quiet())


def files(**entry):
    """The wishes of a write_files with one entry, in a form that any YAML reader takes."""
    entry = dict({"path": "/altbootbank/maas/motd", "content": "hello"}, **entry)
    lines = "".join("  {}: {}\n".format(key, json.dumps(value)) for key, value in sorted(entry.items()))
    return read(wrap("write_files:\n-" + lines[1:]))


class ReadTest(unittest.TestCase):
    def refused(self, work, reason, *args, **keywords):
        with self.assertRaises(host.AgentError) as caught:
            work(*args, **keywords)
        self.assertIn(reason, str(caught.exception))

    def test_nothing(self):
        for text in ("", " \n", wrap(""), wrap("{}\n")):
            wishes = read(text)
            self.assertEqual((wishes.servers, wishes.files, wishes.vcenter, wishes.lines(), wishes.summary()), ([], [], None, [], ""))

    def test_maas(self):
        journal = Quiet()
        journal.hide = unittest.mock.Mock()
        wishes = vendordata.read(sample("vendor-data"), "PEM", journal)
        self.assertEqual(wishes.servers, ["10.40.0.2", "ntp.example"])
        self.assertEqual(wishes.notes, ["snap", "system_info"])
        self.assertEqual(wishes.files, [])  # the vCenter file is never written
        self.assertEqual((wishes.vcenter.server, wishes.vcenter.user, wishes.vcenter.password, wishes.vcenter.datacenter,
                          wishes.vcenter.ca), ("vc.lab.example", "joiner@vsphere.local", "example-Passw0rd!", "DC1", "PEM"))
        journal.hide.assert_called_once_with("example-Passw0rd!")
        self.assertNotIn("Passw0rd", " ".join(wishes.lines()) + wishes.summary())
        self.assertEqual(wishes.summary(), ", NTP, vCenter vc.lab.example; left out, because it is not for ESXi: snap, system_info")
        self.assertIsNone(read(sample("vendor-data-no-vcenter")).vcenter)

    def test_hardware_sync_is_for_linux(self):
        wishes = files(path="/lib/systemd/system/maas_hardware_sync.service")
        self.assertEqual((wishes.files, wishes.notes), ([], ["'/lib/systemd/system/maas_hardware_sync.service' of write_files"]))

    def test_broken(self):
        for text, reason in (("a: b", "no cloud-config under cloud-init"), ("- a", "it is no map"), ("cloud-init: [a]", "no cloud-config"),
                             ("cloud-init: '#cloud-config-archive\n\n  '", "no cloud-config"), ("cloud-init: |\n  a", "line 1: block text"),
                             (wrap("ntp: ["), "the cloud-config in vendor-data from MAAS: line 2: "), (wrap("- a"), "it is no map"),
                             (wrap("write_files: x"), "no list of up to 16 files"), (wrap("write_files: [x]"), "an entry without a path"),
                             (wrap("write_files:\n" + "- path: a\n" * 17), "no list of up to 16 files"),
                             (wrap("ntp: x"), "no map of servers and pools"), (wrap("ntp: {servers: x}"), "neither a name nor an address"),
                             (wrap("ntp: {servers: ['a b']}"), "neither a name"), (wrap("ntp: {servers: ['-x']}"), "neither a name"),
                             (wrap("ntp: {peers: [a]}"), "no map of servers"), (wrap("ntp: {pools: [\"a\\n\"]}"), "neither a name"),
                             (wrap("ntp: {servers: [a1, a2, a3, a4, a5, a6, a7, a8, a9, b1, b2]}"), "11 servers are more than 10")):
            with self.subTest(text):
                self.refused(read, reason, text)

    def test_paths(self):
        for path in ("/etc/passwd", "/altbootbank/boot.cfg", "/altbootbank/maas", "/altbootbank/maas/../boot.cfg", "altbootbank/maas/x",
                     "/altbootbank/maas/./x", "/altbootbank/maas//x", "/altbootbank/maas/", "//altbootbank/maas/x", "/altbootbank/MAAS/x",
                     "/altbootbank/maas/a b", "/altbootbank/maas/a:b", "/altbootbank/maas/a\\b", "/altbootbank/maas/\u00fc",
                     "/altbootbank/maas/.hidden", "/altbootbank/maas/a/b/c/d/e", "/altbootbank/maas/" + "x" * 65, "/tmp/x"):
            with self.subTest(path):
                self.refused(files, "write_files: '", path=path)
        self.assertEqual(files(path="/altbootbank/maas/a/b/c/d.txt").files, [("/altbootbank/maas/a/b/c/d.txt", b"hello")])

    def test_contents(self):
        text = base64.b64encode(b"\0\xff").decode()
        packed = base64.b64encode(gzip.compress(b"hello" * 100)).decode()
        for entry, want in (({"content": text, "encoding": "b64"}, b"\0\xff"), ({"content": packed, "encoding": "gz+b64"}, b"hello" * 100),
                            ({"content": packed, "encoding": "gzip+base64", "permissions": "0600", "owner": "root:root"}, b"hello" * 100),
                            ({"content": ""}, b""), ({"content": "x" * vendordata.MAX_FILE}, b"x" * vendordata.MAX_FILE)):
            with self.subTest(entry):
                self.assertEqual(files(**entry).files[0][1], want)

    def test_contents_that_are_refused(self):
        bomb = base64.b64encode(gzip.compress(b"\0" * (64 << 20))).decode()
        packed = gzip.compress(b"hello")
        for entry, reason in (
                ({"encoding": "b64", "content": "a"}, "not base64"), ({"encoding": "b64", "content": "a*=="}, "not base64"),
                ({"encoding": "gz+b64", "content": "aGVsbG8="}, "not gzip"), ({"encoding": "gz+b64", "content": bomb}, "more than 65536 bytes"),
                ({"encoding": "gz+b64", "content": base64.b64encode(packed[:-4]).decode()}, "not one whole gzip file"),
                ({"encoding": "gz+b64", "content": base64.b64encode(packed + b"x").decode()}, "not one whole gzip file"),
                ({"encoding": "gzip"}, "the encoding is none of"), ({"encoding": "rot13"}, "the encoding is none of"),
                ({"content": "x" * (vendordata.MAX_FILE + 1)}, "more than 65536 bytes"), ({"permissions": "4755"}, "the permissions"),
                ({"permissions": "rwx"}, "the permissions"), ({"permissions": "0999"}, "the permissions"), ({"owner": "nobody"}, "no owner but root"),
                ({"append": "true"}, "'append' is not supported"), ({"source": "x"}, "'source' is not supported")):
            with self.subTest(entry if len(str(entry)) < 200 else reason):
                self.refused(files, reason, **entry)
        self.refused(read, "is there twice", wrap("write_files: [{path: /altbootbank/maas/a}, {path: /altbootbank/maas/A}]"))
        self.refused(read, "its content is no text", wrap("write_files: [{path: /altbootbank/maas/a, content: [b]}]"))
        self.refused(read, "more than 262144 bytes together", wrap("write_files:\n" + "".join(
            "- {{path: /altbootbank/maas/{}, encoding: gz+b64, content: {}}}\n".format(n, base64.b64encode(gzip.compress(
                bytes(vendordata.MAX_FILE))).decode()) for n in range(5))))

    def test_vcenter_file(self):
        path = "/altbootbank/maas/vcenter.yaml"
        for content, reason in (("a: [", "cannot read /altbootbank/maas/vcenter.yaml from MAAS: line 1"), ("a: b", "no map of vcenter_server"),
                                ("vcenter_datacenter: DC1", "vcenter_server and vcenter_username and vcenter_password is not set"),
                                ("vcenter_server: [a]", "no map of"),
                                ("vcenter_server: a/b\nvcenter_username: u\nvcenter_password: p", "neither a host name nor an address")):
            with self.subTest(content):
                self.refused(files, reason, path=path, content=content)


class WriteTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = directory.name
        os.mkdir(os.path.join(self.root, "altbootbank"))
        patch = unittest.mock.patch.object(vendordata, "ROOT", self.root)
        patch.start()
        self.addCleanup(patch.stop)

    def test_write(self):
        journal = Quiet()
        for data in (b"one", b"", b"two"):
            vendordata.write("/altbootbank/maas/a/b", data, journal)
            with open(os.path.join(self.root, "altbootbank/maas/a/b"), "rb") as f:
                self.assertEqual(f.read(), data)
        self.assertEqual(os.listdir(os.path.join(self.root, "altbootbank/maas/a")), ["b"])
        self.assertIn("wrote /altbootbank/maas/a/b, 3 bytes", journal.lines)

    def test_links(self):
        outside = os.path.join(self.root, "outside")
        os.mkdir(outside)
        os.symlink(outside, os.path.join(self.root, "altbootbank/maas"))
        with self.assertRaisesRegex(host.AgentError, "is a link"):
            vendordata.write("/altbootbank/maas/a", b"x", Quiet())
        os.remove(os.path.join(self.root, "altbootbank/maas"))
        os.mkdir(os.path.join(self.root, "altbootbank/maas"))
        os.symlink(os.path.join(outside, "a"), os.path.join(self.root, "altbootbank/maas/a"))
        with self.assertRaisesRegex(host.AgentError, "is a link"):
            vendordata.write("/altbootbank/maas/a", b"x", Quiet())
        self.assertEqual(os.listdir(outside), [])

    def test_what_cannot_be_written(self):
        with open(os.path.join(self.root, "altbootbank/maas"), "w"):
            pass
        with self.assertRaisesRegex(host.AgentError, "cannot write /altbootbank/maas/a: "):
            vendordata.write("/altbootbank/maas/a", b"x", Quiet())


RULES = "Name       Enabled\n---------  -------\nntpClient  {}\n"
CONFIG = "restrict default nomodify\ndriftfile /etc/ntp.drift\nserver 0.pool.example\n\npool 1.pool.example iburst\n"


class NTPTest(EsxiTest):
    def setUp(self):
        super().setUp()
        patch = unittest.mock.patch.object(ntp, "ROOT", self.directory)
        patch.start()
        self.addCleanup(patch.stop)
        self.write("answers/network_firewall_ruleset_list_--ruleset-id=ntpClient", RULES.format("true"))

    def test_7(self):
        self.write("answers/system_ntp_get", "   Enabled: true\n   Loglevel: warning\n   Server: 10.0.0.2, ntp.example\n")
        ntp.configure(self.host(), ["10.0.0.2", "ntp.example"], (7, 0, 0))
        self.assertIn("system ntp set --server=10.0.0.2 --server=ntp.example\nsystem ntp set --enabled=true\n", self.commands())
        self.assertNotIn("ruleset set", self.commands())

    def test_7_reads_back(self):
        for answer in ("   Enabled: false\n   Server: 10.0.0.2\n", "   Enabled: true\n   Server: 10.0.0.3\n", "   Enabled: true\n   Server: \n"):
            self.write("answers/system_ntp_get", answer)
            with self.subTest(answer), self.assertRaisesRegex(host.AgentError, "NTP is not what it was set to"):
                ntp.configure(self.host(), ["10.0.0.2"], (8, 0, 3))

    def test_closed_firewall(self):
        self.write("answers/system_ntp_get", "   Enabled: true\n   Server: 10.0.0.2\n")
        self.write("answers/network_firewall_ruleset_list_--ruleset-id=ntpClient", RULES.format("false"))
        with self.assertRaisesRegex(host.AgentError, "NTP is not what it was set to"):
            ntp.configure(self.host(), ["10.0.0.2"], (8, 0, 3))
        self.assertIn("network firewall ruleset set --ruleset-id=ntpClient --enabled=true", self.commands())

    def test_6_keeps_all_but_the_servers(self):
        os.mkdir(os.path.join(self.directory, "etc"))
        self.write("etc/ntp.conf", CONFIG)
        for _ in range(2):
            ntp.write(["10.0.0.2", "ntp.example"])
            with open(os.path.join(self.directory, "etc/ntp.conf")) as f:
                self.assertEqual(f.read(), "restrict default nomodify\ndriftfile /etc/ntp.drift\n\nserver 10.0.0.2\nserver ntp.example\n")


if __name__ == "__main__":
    unittest.main()
