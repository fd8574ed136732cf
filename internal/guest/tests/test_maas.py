"""The machine's side of MAAS's metadata service."""

import os
import time
import unittest
import unittest.mock

from esxi import Clock, Quiet, ServerTest

import agent
import host
import maas
from journal import Journal


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

    def test_date_is_utc(self):
        """Also where the header does not say so, and wherever the host is."""
        client = self.client(self.serve())
        with unittest.mock.patch.dict(os.environ, TZ="America/New_York"):
            time.tzset()
            try:
                for zone in (" GMT", " +0000", " -0000", ""):
                    date = time.strftime("%a, %d %b %Y %H:%M:%S", time.gmtime(time.time() + 600)) + zone
                    self.assertAlmostEqual(client.seconds_behind({"Date": date}), 600, delta=5, msg=zone)
            finally:
                os.environ.pop("TZ")
                time.tzset()

    def test_dates_that_make_no_sense(self):
        client = self.client(self.serve())
        for date in ("", "yesterday", "Fri, 99 Foo 2026 99:99:99 GMT", "Fri, 01 Jan 99999999999 00:00:00 GMT"):
            with self.subTest(date):
                self.assertEqual(client.seconds_behind({"Date": date}), 0)

    def test_clock_that_is_wrong_all_the_time(self):
        """The clock is corrected once for a request: another refusal has another reason."""
        server = self.serve()
        server.ahead = 7200
        server.statuses = [401, 401, 401, 401]
        with self.assertRaises(host.AgentError):
            self.client(server).report("start", "name", "text")
        self.assertEqual(len(server.requests), 2)

    def test_patience_ends_with_the_time_for_all(self):
        server, clock = self.serve(), Clock()
        server.statuses = [503] * 1000
        client = maas.Client(server.reporting(), Quiet(), host.Deadline(100, clock))
        with self.assertRaises(maas.Unreachable):
            client.report("start", "name", "text")
        self.assertTrue(clock.slept <= 100, clock.slept)
        self.assertFalse(client.reached)

    def test_whole_first_boot_in_half_an_hour(self):
        """Together with ten minutes for the start of the machine and of ESXi."""
        self.assertLessEqual(agent.WORK + agent.LAST_WORDS, 20 * 60)
        self.assertLess(maas.PATIENCE, agent.WORK)

    def test_answer_that_is_cut_short(self):
        """Half of a name, a key or a script is not used."""
        server, clock = self.serve(), Clock()
        server.cut = 4
        with self.assertRaises(maas.Unreachable) as caught:
            self.client(server, clock).fetch("local-hostname")
        self.assertIn("cut short", str(caught.exception))

    def test_secret_is_hidden(self):
        journal = Journal(os.devnull, os.devnull)
        server = self.serve()
        client = maas.Client(server.reporting(), journal, host.Deadline(900, Clock()))
        self.assertEqual(journal.clean("the key is SEC&RET."), "the key is ***.")
        client.report("finish", "name", "quotes SEC&RET", "FAIL")
        self.assertEqual(server.requests[0][3]["description"], "quotes ***")

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
