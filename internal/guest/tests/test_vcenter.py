"""vCenter's answers, good and bad. Certificates and the whole way are tested on the simulated host."""

import http.server
import json
import os
import re
import tempfile
import threading
import unittest
import unittest.mock

from esxi import Clock, EsxiTest, Quiet

import host
import vcenter

SETTINGS = {"vcenter_server": "vc", "vcenter_username": "u", "vcenter_password": "pass word", "vcenter_datacenter": "DC1"}
GOOD = {"POST /api/session": "sid-1", "DELETE /api/session": None, "GET /api/vcenter/datacenter": [{"datacenter": "dc-1", "name": "DC1"}],
        "GET /api/vcenter/datacenter/dc-1": {"host_folder": "group-h1"}, "GET /api/vcenter/host": []}


class Server(http.server.HTTPServer):
    """Answers by method and path; an int is a status, bytes are a body as it is."""

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests, self.unavailable = answers, [], 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        server, key = self.server, self.command + " " + self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.requests.append((self.command, self.path, dict(self.headers), body))
        value = server.answers.get(key, 404)
        if server.unavailable:
            server.unavailable, value = server.unavailable - 1, 503
        status, data = (value, b"") if isinstance(value, int) else (200, value if isinstance(value, bytes) else json.dumps(value).encode())
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *args):
        pass


class ClientTest(unittest.TestCase):
    def client(self, **changes):
        answers = dict(GOOD, **{key.replace("_", " ", 1): value for key, value in changes.items()})
        self.server = Server(answers)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.clock = Clock()
        self.journal = Quiet()
        client = vcenter.Client(vcenter.read(SETTINGS), unittest.mock.Mock(journal=self.journal, deadline=host.Deadline(900, self.clock)))
        client.base = "http://127.0.0.1:{}".format(self.server.server_port)
        return client

    def test_check(self):
        client = self.client()
        vcenter.check(client, "esx1.example")
        self.assertEqual([request[:2] for request in self.server.requests], [
            ("POST", "/api/session"), ("GET", "/api/vcenter/datacenter?names=DC1"), ("GET", "/api/vcenter/datacenter/dc-1"),
            ("GET", "/api/vcenter/host?names=esx1.example"), ("DELETE", "/api/session")])
        headers = [request[2] for request in self.server.requests]
        self.assertEqual(headers[0]["Authorization"], "Basic dTpwYXNzIHdvcmQ=")
        self.assertEqual([h.get("Vmware-Api-Session-Id") for h in headers], [None] + ["sid-1"] * 4)
        self.assertEqual([h.get("Authorization") for h in headers[1:]], [None] * 4)

    def test_old_forms(self):
        answers = dict((key.replace("/api/vcenter", "/rest/vcenter").replace("/api/session", "/rest/com/vmware/cis/session"), {"value": value})
                       for key, value in GOOD.items())
        client = self.client()
        self.server.answers = answers
        vcenter.check(client, "esx1.example")
        self.assertIn("/rest/vcenter/host?filter.names=esx1.example", [request[1] for request in self.server.requests])

    def test_patience(self):
        client = self.client()
        self.server.unavailable = 3
        vcenter.check(client, "esx1.example")
        self.assertEqual(self.clock.slept, 1 + 2 + 4)
        self.server.unavailable = 1000
        with self.assertRaisesRegex(host.AgentError, "cannot reach vCenter vc: .*status 503"):
            vcenter.check(client, "esx1.example")
        self.assertLess(self.clock.slept, vcenter.PATIENCE + 20)

    def test_bad_answers(self):
        dc, folder, hosts = "GET_/api/vcenter/datacenter", "GET_/api/vcenter/datacenter/dc-1", "GET_/api/vcenter/host"
        for key, value, reason in (
                ("POST_/api/session", 401, "status 401: the user name or the password is wrong"), ("POST_/api/session", b"<html>", "not JSON"),
                ("POST_/api/session", ["x"], "opened no session"), ("POST_/api/session", "a\r\nb: c", "opened no session"),
                ("POST_/api/session", b"[" * 100000, "not JSON"), ("POST_/api/session", b"\xff", "not JSON"), (dc, {}, "has another form"),
                (dc, [1], "has another form"), (dc, [{"datacenter": 1}], "has another form"), (dc, [], "no datacenters called 'DC1'"),
                (dc, [{"datacenter": "a"}, {"datacenter": "b"}], "2 datacenters"), (folder, [], "does not tell the host folder"),
                (folder, {"host_folder": None}, "does not tell"), (dc, 500, "status 500"), (hosts, None, "has another form"),
                (hosts, [{"host": "host-1", "connection_state": "CONNECTED"}], "already (CONNECTED): remove it there first")):
            with self.subTest(key, value=str(value)[:30]), self.assertRaises(host.AgentError) as caught:
                vcenter.check(self.client(**{key: value}), "esx1.example")
            self.assertIn(reason, str(caught.exception))

    def test_answer_that_never_ends(self):
        client = self.client()
        drip = unittest.mock.MagicMock(headers={})
        drip.read1.side_effect = lambda size: self.clock.sleep(20) or b"x"
        client.opener = unittest.mock.MagicMock()
        client.opener.open.return_value.__enter__.return_value = drip
        with self.assertRaisesRegex(host.AgentError, "cannot reach vCenter vc: its answer takes too long"):
            client.patiently("GET", "/api/vcenter/host")
        self.assertLess(self.clock.slept, 2 * vcenter.PATIENCE)

    def test_redirects_are_not_followed(self):
        with self.assertRaisesRegex(host.AgentError, "status 302"):
            vcenter.check(self.client(**{"POST_/api/session": 302}), "esx1.example")

    def test_authority_that_is_none(self):
        for ca in ("x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\u00fc"):
            with self.subTest(ca), self.assertRaisesRegex(host.AgentError, "vcenter_ca_file is no certificate"):
                vcenter.trust(ca)


class AccountTest(EsxiTest):
    def test_password_goes_through_a_pipe(self):
        journal = Quiet()
        journal.hide = unittest.mock.Mock()
        password = vcenter.make_account(self.host(journal))
        journal.hide.assert_called_once_with(password)
        self.assertTrue(re.fullmatch("aB3-[0-9a-f]{24}-e7Fg", password))
        self.assertNotEqual(password, vcenter.make_account(self.host(journal)))
        self.assertEqual(self.commands(), (
            "system account add --id=esxid-join --description=esxid, for the first boot only --password --password-confirmation\n"
            "system permission set --id=esxid-join --role=Admin\n") * 2)

    def test_account_that_stays_is_an_error(self):
        self.write("answers/system_account_list", "User ID     Description\n----------  -----------\nesxid-join  x\n")
        with self.assertRaisesRegex(host.AgentError, "esxid-join is still there"):
            vcenter.remove_account(self.host())

    def test_file_of_somebody_else_is_overwritten_on_the_disk(self):
        seen = []

        def sync(fd):
            with open("/proc/self/fd/{}".format(fd), "rb") as f:
                seen.append(f.read())

        with tempfile.TemporaryDirectory() as root, unittest.mock.patch.object(vcenter, "ROOT", root):
            path = os.path.join(root, vcenter.FILE[1:])
            os.makedirs(os.path.dirname(path))
            with open(path, "w") as f:
                f.write("vcenter_password: x\n")
            with unittest.mock.patch("os.fsync", sync):
                vcenter.remove_traces(self.host())
            self.assertFalse(os.path.exists(path))
        self.assertIn(bytes(20), seen)

    def test_thumbprint(self):
        with tempfile.TemporaryDirectory() as root, unittest.mock.patch.object(vcenter, "ROOT", root):
            with self.assertRaisesRegex(host.AgentError, "cannot read the host's certificate"):
                vcenter.thumbprint()
            os.makedirs(os.path.join(root, "etc/vmware/ssl"))
            for text in ("", "x", "-----BEGIN CERTIFICATE-----\nYWJj\n"):
                with open(os.path.join(root, vcenter.CERTIFICATE), "w") as f:
                    f.write(text)
                with self.subTest(text), self.assertRaises(host.AgentError):
                    vcenter.thumbprint()
            with open(os.path.join(root, vcenter.CERTIFICATE), "w") as f:
                f.write("-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n")  # "abc"
            self.assertEqual(vcenter.thumbprint(), "A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D")


if __name__ == "__main__":
    unittest.main()
