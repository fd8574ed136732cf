"""The machine's side of MAAS's metadata service: events, and the request for user-data.

Requests are signed with the machine's own key (OAuth 1.0, PLAINTEXT).
"""

import binascii
import email.utils
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

from host import AgentError

PATIENCE = 15 * 60     # seconds; MAAS gives the whole first boot 30 minutes
LONGEST_PAUSE = 30     # seconds between two attempts
TIMEOUT = 30           # seconds for one attempt
MAX_BODY = 1 << 20     # bytes of an answer that are read
MAX_TEXT = 1000        # characters of an event's description


class Unreachable(AgentError):
    """MAAS did not answer in all the time there is."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """The signature is for the address MAAS gave and no other."""

    def redirect_request(self, *args):
        return None


class Client:
    def __init__(self, reporting, journal, clock=time):
        self.endpoint = str(reporting.get("endpoint"))
        self.keys = [str(reporting.get(k)) for k in ("consumer_key", "token_key", "token_secret")]
        self.journal, self.clock = journal, clock
        self.skew = 0      # seconds this host's clock is behind MAAS's
        url = urllib.parse.urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.hostname or "/status/" not in url.path:
            raise AgentError("cannot use MAAS's endpoint {!r}".format(self.endpoint))
        self.port = url.port or {"http": 80, "https": 443}[url.scheme]
        self.metadata = self.endpoint[:self.endpoint.index("/status/")] + "/"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)

    def report(self, kind, name, text, result=None, patience=None):
        """Sends an event; "finish" with result "FAIL" fails the deployment."""
        event = {"event_type": kind, "origin": "esxid", "name": name,
                 "description": text[:MAX_TEXT], "timestamp": self.clock.time() + self.skew}
        if result:
            event["result"] = result
        status = self.request(self.endpoint, json.dumps(event).encode("ascii"), patience)[0]
        if status not in (200, 201, 204):
            raise AgentError("MAAS answered an event with status {}".format(status))

    def fetch(self, name):
        """The text of one item of the metadata, "" if there is none."""
        status, body = self.request(self.metadata + "latest/meta-data/" + name)
        if status not in (200, 404):
            raise AgentError("MAAS answered the request for {} with status {}".format(name, status))
        return body.decode("utf-8", "replace") if status == 200 else ""

    def fetch_user_data(self):
        """Asks for user-data, which makes the machine Deployed. To be called last."""
        status, body = self.request(self.metadata + "latest/user-data")
        if status not in (200, 404):
            raise AgentError("MAAS answered the request for user-data with status {}".format(status))
        if body and status == 200:
            self.journal.say("user-data is not supported yet: {} bytes were not run".format(len(body)))

    def request(self, url, data=None, patience=None):
        """Sends a request until MAAS answers it; returns status and body."""
        deadline = self.clock.monotonic() + (PATIENCE if patience is None else patience)
        pause, corrected = 1, False
        while True:
            try:
                status, headers, body = self.attempt(url, data)
                behind = self.seconds_behind(headers)
                if status == 401 and not corrected and abs(behind - self.skew) > 60:
                    corrected = True
                    self.journal.say("this host's clock is {} s behind MAAS's".format(behind))
                    self.skew = behind
                    continue
                if status < 500 and status not in (408, 409, 429):
                    return status, body
                reason = "status {}".format(status)
            except (OSError, http.client.HTTPException) as e:
                reason = str(getattr(e, "reason", e))
            if self.clock.monotonic() + pause > deadline:
                raise Unreachable("cannot reach MAAS at {}: {}".format(self.endpoint, reason))
            self.journal.say("MAAS does not answer yet ({}), trying again in {} s".format(reason, pause))
            self.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def attempt(self, url, data):
        headers = {"Authorization": self.authorization()}
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data=data, headers=headers)
        try:
            with self.opener.open(request, timeout=TIMEOUT) as answer:
                return answer.getcode(), answer.headers, answer.read(MAX_BODY)
        except urllib.error.HTTPError as e:  # its body may quote the secret: not read
            e.close()
            return e.code, e.headers, b""

    def authorization(self):
        consumer, token, secret = (urllib.parse.quote(k, safe="") for k in self.keys)
        values = [
            ("oauth_consumer_key", consumer),
            ("oauth_token", token),
            ("oauth_signature_method", "PLAINTEXT"),
            ("oauth_signature", urllib.parse.quote("&" + secret, safe="")),
            ("oauth_timestamp", str(int(self.clock.time() + self.skew))),
            ("oauth_nonce", binascii.hexlify(os.urandom(16)).decode("ascii")),
            ("oauth_version", "1.0"),
        ]
        return "OAuth " + ", ".join("{}=\"{}\"".format(k, v) for k, v in values)

    def seconds_behind(self, headers):
        date = email.utils.parsedate_tz(headers.get("Date") or "")
        return int(email.utils.mktime_tz(date) - self.clock.time()) if date else self.skew
