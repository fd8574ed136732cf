"""Name and certificate, system UUID, SSH keys."""

import binascii
import os
import unittest
import unittest.mock

from esxi import ANSWERS, EsxiTest, Quiet

import host
import identity

IMAGE_UUID = "5d1b5a6e-1c2d-3e4f-5a6b-525400123456"  # ends with the MAC address of the machine the image was made on
OWN_UUID = "5d1b5a6e-1c2d-3e4f-5a6b-a4bf014e3714"    # with that of vmnic0
ESX_CONF = "/system/uuid = \"{}\"\n/adv/Misc/HostName = \"x\"\n".format(IMAGE_UUID)
RSA, ED = "ssh-rsa AAAAB3Nza ops@lab", "ssh-ed25519 AAAAC3Nza ada@lab"


class IdentityTest(EsxiTest):
    def setUp(self):
        super().setUp()
        self.journal = Quiet()
        patch = unittest.mock.patch.object(identity, "ROOT", self.directory)
        patch.start()
        self.addCleanup(patch.stop)
        for name in ("sbin", "etc/init.d", "etc/vmware/ssl"):
            os.makedirs(os.path.join(self.directory, name))
        self.certify("localhost.localdomain")
        for name in ("sbin/generate-certificates", "etc/init.d/rhttpproxy", "etc/init.d/hostd"):
            self.program(name, 'echo "${0##*/} $*" >>"$FAKE/esxcli.log"')

    def program(self, name, body):
        self.write(name, "#!/bin/sh\n" + body + "\n")
        os.chmod(os.path.join(self.directory, name), 0o755)

    def certify(self, name):
        """Leaves something with the name in it where the certificate is."""
        text = binascii.b2a_base64(b"\x30\x82" + name.encode()).decode()
        self.write(identity.CERTIFICATE, "-----BEGIN CERTIFICATE-----\n" + text + "-----END CERTIFICATE-----\n")

    def log(self):
        path = os.path.join(self.directory, "esxcli.log")
        if not os.path.exists(path):
            return []
        with open(path) as f:
            return f.read().splitlines()

    def named(self, fqdn):
        self.write("answers/system_hostname_get", ANSWERS["system_hostname_get"].replace("localhost.localdomain", fqdn))


class NameTest(IdentityTest):
    def test_certificate_after_the_name(self):
        """hostd is restarted last, and esxcli asked until it answers again."""
        identity.set_name(self.host(), "esx1.lab.example")
        self.assertEqual(self.log(), [
            "system hostname get", "system hostname set --fqdn=esx1.lab.example", "generate-certificates ",
            "rhttpproxy restart", "hostd restart", "system version get"])

    def test_service_that_a_version_has_not(self):
        os.remove(os.path.join(self.directory, "etc/init.d/rhttpproxy"))
        identity.set_name(self.host(), "esx1.lab.example")
        self.assertIn("hostd restart", self.log())

    def test_nothing_to_do(self):
        self.named("esx1.lab.example")
        self.certify("esx1.lab.example")
        identity.set_name(self.host(), "esx1.lab.example")
        self.assertEqual(self.log(), ["system hostname get"])

    def test_name_without_its_certificate(self):
        self.named("esx1.lab.example")
        identity.set_name(self.host(), "esx1.lab.example")
        self.assertIn("generate-certificates ", self.log())
        self.write(identity.CERTIFICATE, "no certificate")
        self.assertFalse(identity.is_certified("esx1.lab.example"))

    def test_certificate_fails(self):
        self.program("sbin/generate-certificates", "echo 'no entropy'; exit 1")
        with self.assertRaises(host.AgentError) as caught:
            identity.set_name(self.host(), "esx1.lab.example")
        self.assertIn("no entropy", str(caught.exception))

    def test_names(self):
        for text in ("esx1", "esx-1.lab.example", "ESX1.lab.example.\n", "1.2"):
            self.assertEqual(identity.read_name(text), text.strip().rstrip("."))
        for text in ("", "-x.example", "a..b", "a b", "a_b", "x" * 64, "a.b;reboot", "\u00fc.example", ".".join(["x" * 60] * 5)):
            with self.subTest(text), self.assertRaises(host.AgentError):
                identity.read_name(text)


class UUIDTest(IdentityTest):
    def setUp(self):
        super().setUp()
        self.write(identity.CONFIG, ESX_CONF)

    def renew(self, *version):
        identity.renew_uuid(self.host(), version, self.journal)
        with open(os.path.join(self.directory, identity.CONFIG)) as f:
            return f.read()

    def test_renewed_where_that_works(self):
        for version in ((6, 5, 0), (6, 7, 0), (7, 0, 0), (7, 0, 1)):
            self.write(identity.CONFIG, ESX_CONF)
            with self.subTest(version):
                self.assertEqual(self.renew(*version), "/adv/Misc/HostName = \"x\"\n")
                self.assertEqual(self.log()[-1], "system uuid get", "that makes the new one")
        self.assertIn("the system UUID is now", self.journal.lines[-1])

    def test_own_one_is_kept(self):
        self.write("answers/system_uuid_get", OWN_UUID + "\n")
        self.assertEqual(self.renew(6, 7, 0), ESX_CONF)

    def test_said_where_it_does_not_work(self):
        for version in ((7, 0, 2), (7, 0, 3), (8, 0, 0), (9, 0, 0)):
            with self.subTest(version):
                self.assertEqual(self.renew(*version), ESX_CONF)
                self.assertIn("Broadcom KB 84280", self.journal.lines[-1])

    def test_cannot_be_renewed(self):
        os.remove(os.path.join(self.directory, identity.CONFIG))
        with self.assertRaises(host.AgentError):
            self.renew(6, 7, 0)


class KeysTest(IdentityTest):
    def add(self, text, version=(7, 0, 3)):
        identity.add_keys(text, version, self.journal)
        path = os.path.join(self.directory, identity.KEYS)
        if not os.path.exists(path):
            return None
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with open(path) as f:
            return f.read()

    def test_keys(self):
        self.assertIsNone(self.add(""))
        self.assertEqual(self.add(RSA + "\n" + ED), RSA + "\n" + ED + "\n")
        self.assertEqual(self.add(RSA), RSA + "\n" + ED + "\n")

    def test_what_is_no_key(self):
        self.assertEqual(self.add("# keys\n<html>\ncommand=\"x\"\n" + RSA), RSA + "\n")
        self.assertIn("warning: 2 of MAAS's 3 SSH keys", "".join(self.journal.lines))

    def test_ed25519_on_8(self):
        self.add(RSA + "\n" + ED, (8, 0, 3))
        self.assertIn("refuse Ed25519 keys", "".join(self.journal.lines))


if __name__ == "__main__":
    unittest.main()
