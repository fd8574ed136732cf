"""The machine's side of MAAS's metadata service: events, and the request for user-data.

Requests are signed with the machine's own key (OAuth 1.0, PLAINTEXT).
"""

import binascii
import email.utils
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request

from host import AgentError

PATIENCE = 8 * 60      # seconds until MAAS has to answer a request
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


def port_of(endpoint):
    """The TCP port of MAAS's endpoint, "http://HOST:PORT/MAAS/metadata/status/SYSTEM_ID"."""
    try:
        url = urllib.parse.urlsplit(endpoint)
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        port = None
    if not port or not url.hostname or "/status/" not in url.path:
        raise AgentError("cannot use MAAS's endpoint {!r}".format(endpoint))
    return port


def read_body(answer, clock):
    """The body of an answer, complete, which must not take much longer than the attempt."""
    length = str(answer.headers.get("Content-Length"))
    wanted = min(int(length), MAX_BODY) if length.isdigit() else MAX_BODY
    body, end = b"", clock.monotonic() + 2 * TIMEOUT
    while len(body) < wanted:
        part = answer.read1(wanted - len(body))
        if not part:
            break
        body += part
        if clock.monotonic() > end:
            raise OSError("its answer takes too long")
    if length.isdigit() and len(body) < wanted:
        raise OSError("its answer was cut short")
    return body


class Client:
    def __init__(self, reporting, journal, deadline):
        self.endpoint = str(reporting.get("endpoint"))
        self.keys = [str(reporting.get(k)) for k in ("consumer_key", "token_key", "token_secret")]
        self.journal, self.deadline, self.clock = journal, deadline, deadline.clock
        journal.hide(self.keys[2])
        self.reached = False  # whether MAAS has answered
        self.skew = 0         # seconds this host's clock is behind MAAS's
        self.port = port_of(self.endpoint)
        self.metadata = self.endpoint[:self.endpoint.index("/status/")] + "/"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)

    def report(self, kind, name, text, result=None, patience=None):
        """Sends an event; "finish" with result "FAIL" fails the deployment."""
        event = {"event_type": kind, "origin": "esxid", "name": name,
                 "description": self.journal.clean(text)[:MAX_TEXT], "timestamp": self.clock.time() + self.skew}
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
        """The owner's bytes, b"" if there are none. To be called last: the request makes the machine Deployed."""
        status, body = self.request(self.metadata + "latest/user-data")
        if status not in (200, 404):
            raise AgentError("MAAS answered the request for user-data with status {}".format(status))
        return body if status == 200 else b""

    def request(self, url, data=None, patience=None):
        """Sends a request until MAAS answers it; returns status and body."""
        end = self.clock.monotonic() + min(PATIENCE if patience is None else patience, self.deadline.left())
        pause, corrected = 1, False
        while True:
            try:
                status, headers, body = self.attempt(url, data)
                behind = self.seconds_behind(headers)
                if status in (401, 403) and not corrected and abs(behind - self.skew) > 60:
                    corrected = True
                    self.journal.say("this host's clock is {} s behind MAAS's".format(behind))
                    self.skew = behind
                    continue
                if status < 500 and status not in (408, 409, 429):
                    self.reached = True
                    return status, body
                reason = "status {}".format(status)
            except (OSError, http.client.HTTPException) as e:
                reason = str(getattr(e, "reason", e))
            if self.clock.monotonic() + pause > end:
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
                return answer.getcode(), answer.headers, read_body(answer, self.clock)
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
        """By MAAS's Date header, which is in UTC, also where it does not say so (RFC 7231, 7.1.1.1)."""
        date = email.utils.parsedate_tz(headers.get("Date") or "")
        try:
            return int(email.utils.mktime_tz(date[:9] + (date[9] or 0,)) - self.clock.time())
        except (TypeError, ValueError, OverflowError):  # there is none, or one that makes no sense
            return self.skew
