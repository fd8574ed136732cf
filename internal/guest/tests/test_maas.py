"""The machine's side of MAAS's metadata service."""

import time
import unittest

from esxi import Clock, Quiet, ServerTest

import host
import maas


class MaasTest(ServerTest):
    def client(self, server, clock=None):
        return maas.Client(server.reporting(), Quiet(), host.Deadline(900, clock or Clock()))

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
        self.assertTrue(400 < clock.slept <= maas.PATIENCE)

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
                maas.Client({"endpoint": endpoint}, Quiet(), host.Deadline(900))


if __name__ == "__main__":
    unittest.main()
