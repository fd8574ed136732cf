"""Adds the host to a vCenter Server, if MAAS says so.

MAAS's vendor-data has the settings, as a file for the boot bank; they stay in
memory, and a file left there by somebody else is removed. vCenter logs in to the
host once to take it over and makes an account of its own: for that the host gets
an account with a random password, which goes again whatever happens. root's
password is not needed, so that no image holds it.

vCenter's certificate is checked, with the operator's authority if the image was
built with one. vCenter in turn gets the thumbprint of the host's.

The API is REST: /api from 7.0 Update 2 on, /rest before, with other forms of
the same requests (VMware vSphere Automation REST API, services session,
datacenter and host).
"""

import binascii
import contextlib
import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from host import AgentError, Deadline
from maas import NoRedirect, read_body

FILE = "/altbootbank/maas/vcenter.yaml"  # fixed in MAAS
ACCOUNT = "esxid-join"
PORT = 443
ROOT = "/"                     # tests have another
CERTIFICATE = "etc/vmware/ssl/rui.crt"
PATIENCE = 5 * 60              # seconds until vCenter has to answer
LONGEST_PAUSE = 20             # seconds between two attempts
TIMEOUT = 30                   # seconds for a request
JOIN_TIMEOUT = 5 * 60          # seconds for adding the host, during which vCenter installs its agent
KEYS = ("vcenter_server", "vcenter_username", "vcenter_password", "vcenter_datacenter")


class Settings:
    def __init__(self, server, user, password, datacenter):
        self.server, self.user, self.password, self.datacenter = server, user, password, datacenter
        self.ca = None  # authorities to trust besides the system's, in PEM

    def __str__(self):
        return "vCenter {}".format(self.server)


def read(values):
    """The Settings in MAAS's file. MAAS leaves out what is not set there."""
    if set(values) - set(KEYS) or not all(value is None or isinstance(value, str) for value in values.values()):
        raise AgentError("{}: it is no map of {}".format(FILE, ", ".join(KEYS)))
    missing = [key for key in KEYS[:3] if not values.get(key)]
    if missing:
        raise AgentError("vCenter: {} is not set in MAAS: set it, or deploy without vcenter_registration".format(
            " and ".join(missing)))
    server = values["vcenter_server"].strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]+\]", server):
        raise AgentError("vCenter: vcenter_server {!r} is neither a host name nor an address".format(server[:200]))
    return Settings(server, values["vcenter_username"], values["vcenter_password"], values.get("vcenter_datacenter"))


class Refused(AgentError):
    """vCenter answered, with an error."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Client:
    def __init__(self, settings, host):
        self.settings, self.journal, self.deadline = settings, host.journal, host.deadline
        self.name = str(settings)
        self.base, self.session, self.old = "https://{}".format(settings.server), None, False
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect,
                                                  urllib.request.HTTPSHandler(context=trust(settings.ca)))

    @contextlib.contextmanager
    def logged_in(self):
        """A session; it ends with the body."""
        login = "{}:{}".format(self.settings.user, self.settings.password).encode("utf-8")
        basic = "Basic " + binascii.b2a_base64(login).decode("ascii").strip()
        self.old, self.session = False, None
        try:
            self.session = self.patiently("POST", "/api/session", {"Authorization": basic})
        except Refused as e:
            if e.status not in (400, 404, 405, 501):
                raise
            self.old = True
            self.session = self.patiently("POST", "/rest/com/vmware/cis/session", {"Authorization": basic})
        if not isinstance(self.session, str) or not re.fullmatch("[!-~]{1,500}", self.session):
            raise AgentError("{} opened no session".format(self.name))
        self.journal.hide(self.session)
        try:
            yield
        finally:
            try:
                self.call("DELETE", "/rest/com/vmware/cis/session" if self.old else "/api/session")
            except (AgentError, OSError) as e:  # it ends by itself after a while
                self.journal.say("cannot close the session: {}".format(e))

    def get(self, what, **filters):
        """A list, or with what a path to one object, that object."""
        if filters:
            what += "?" + urllib.parse.urlencode([("filter." + k if self.old else k, v) for k, v in filters.items()])
        return self.patiently("GET", self.path(what))

    def create(self, what, spec):
        try:
            return self.call("POST", self.path(what), body={"spec": spec} if self.old else spec, timeout=JOIN_TIMEOUT)
        except OSError as e:
            raise AgentError("{} did not answer: {}".format(self.name, e))

    def path(self, what):
        return ("/rest/vcenter/" if self.old else "/api/vcenter/") + what

    def patiently(self, method, path, headers=None):
        """call, again and again until vCenter answers. For what may be done twice."""
        patience = Deadline(min(PATIENCE, self.deadline.left()), self.deadline.clock)
        pause = 1
        while True:
            try:
                return self.call(method, path, headers)
            except OSError as e:
                reason = str(getattr(e, "reason", e))
            except Refused as e:
                if e.status not in (502, 503, 504):
                    raise
                reason = str(e)
            if patience.left() < pause:
                raise AgentError("cannot reach {}: {}".format(self.name, reason))
            self.journal.say("{} does not answer yet ({}), trying again in {} s".format(self.name, reason, pause))
            self.deadline.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def call(self, method, path, headers=None, body=None, timeout=TIMEOUT):
        """One request; the value in the answer. No answer is an OSError."""
        headers = dict(headers or {}, Accept="application/json")
        if self.session:
            headers["vmware-api-session-id"] = self.session
        data = None if body is None else json.dumps(body).encode("ascii")
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.base + path, data=data, headers=headers, method=method)
        try:
            with self.opener.open(request, timeout=max(1, min(timeout, self.deadline.left()))) as answer:
                return self.value(read_body(answer, self.deadline.clock))
        except urllib.error.HTTPError as e:
            with contextlib.closing(e):
                raise Refused(e.code, "{} refused: {}".format(self.name, why(e, self.deadline.clock)))
        except http.client.HTTPException as e:
            raise OSError("no answer in HTTP: {}".format(type(e).__name__))
        except (ssl.SSLError, ssl.CertificateError, urllib.error.URLError) as e:
            self.check_trust(getattr(e, "reason", e))
            raise

    def value(self, text):
        if not text.strip():
            return None
        try:
            value = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError):
            raise AgentError("{}: its answer is not JSON".format(self.name))
        return value.get("value") if self.old and isinstance(value, dict) else value

    def check_trust(self, reason):
        """Patience does not help against a certificate that is not trusted."""
        if isinstance(reason, ssl.CertificateError) or "CERTIFICATE_VERIFY_FAILED" in str(reason):
            now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.deadline.clock.time()))
            raise AgentError("the certificate of {} is not trusted: {} (this host's clock: {}): build the image with its "
                             "authority's certificate as vcenter_ca_file".format(
                                 self.name, getattr(reason, "verify_message", reason), now))

    # What is asked and done.

    def find_folder(self, host_name):
        """The folder the host is to be added to. It must not be in vCenter yet."""
        wanted = self.settings.datacenter
        found = rows(self.get("datacenter", names=wanted) if wanted else self.get("datacenter"), "datacenter")
        if len(found) != 1:
            raise AgentError("{} has {} datacenters{}: set vcenter_datacenter in MAAS to the name of one".format(
                self.name, len(found) or "no", " called {!r}".format(wanted) if wanted else ""))
        folder = self.get("datacenter/" + urllib.parse.quote(found[0]["datacenter"], safe=""))
        if not isinstance(folder, dict) or not isinstance(folder.get("host_folder"), str):
            raise AgentError("{} does not tell the host folder of its datacenter".format(self.name))
        there = rows(self.get("host", names=host_name), "host")
        if there:
            raise AgentError("{} has a host {} already ({}): remove it there first".format(
                self.name, host_name, there[0].get("connection_state")))
        return folder["host_folder"]

    def add(self, host_name, password):
        self.create("host", {
            "hostname": host_name, "user_name": ACCOUNT, "password": password, "folder": self.find_folder(host_name),
            "thumbprint_verification": "THUMBPRINT", "thumbprint": thumbprint()})
        there = rows(self.get("host", names=host_name), "host")
        states = [row.get("connection_state") for row in there]
        if states != ["CONNECTED"]:
            raise AgentError("{} has the host as {}".format(self.name, states[0] if states else "absent"))


def trust(ca):
    context = ssl.create_default_context()
    if ca:
        try:
            context.load_verify_locations(cadata=ca)
        except (ssl.SSLError, ValueError, TypeError) as e:
            raise AgentError("the image's vcenter_ca_file is no certificate: {}".format(e))
    return context


def rows(value, key):
    """A list of objects that have this key."""
    if not isinstance(value, list) or not all(isinstance(row, dict) and isinstance(row.get(key), str) for row in value):
        raise AgentError("vCenter's list of {}s has another form than expected".format(key))
    return value


def why(error, clock):
    """vCenter's own words for an error, else the status."""
    try:
        value = json.loads(read_body(error, clock).decode("utf-8"))
        messages = value.get("messages") or value["value"]["messages"]
        text = " ".join(messages[0]["default_message"].split())[:300]
    except Exception:  # whatever it sent, the status stands
        text = ""
    if error.code == 401:
        text = text or "the user name or the password is wrong"
    return "status {}{}".format(error.code, text and ": " + text)


def thumbprint():
    """The host certificate's, as vCenter wants it: SHA-1, "AA:BB:..."."""
    try:
        with open(os.path.join(ROOT, CERTIFICATE)) as f:
            text = f.read(1 << 20)
        pem = re.search("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL).group()
        digits = hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    except (OSError, ValueError, AttributeError) as e:
        raise AgentError("cannot read the host's certificate /{}: {}".format(CERTIFICATE, e))
    return ":".join(digits[i:i + 2] for i in range(0, len(digits), 2))


def check(client, host_name):
    """Finds out whether vCenter will take the host, before the host is changed."""
    with client.logged_in():
        client.find_folder(host_name)


def join(host, client, host_name):
    try:
        with client.logged_in():
            client.add(host_name, make_account(host))
    except Exception:
        remove_traces(host)
        raise
    remove_account(host)


def make_account(host):
    """Adds the account, with all rights; returns its password, which goes through a pipe."""
    remove_account(host)
    # All classes of characters, none of them only at the beginning or end, where they do not count.
    password = "aB3-{}-e7Fg".format(binascii.hexlify(os.urandom(12)).decode("ascii"))
    host.journal.hide(password)
    host.run("esxcli", "system", "account", "add", "--id=" + ACCOUNT, "--description=esxid, for the first boot only",
             "--password", "--password-confirmation", answer="{0}\n{0}\n".format(password).encode("ascii"))
    host.esxcli("system", "permission", "set", "--id=" + ACCOUNT, "--role=Admin")
    return password


def remove_account(host):
    """Removes the account and looks again. Tells whether it was there."""
    there = has_account(host)
    if there:
        try:
            host.esxcli("system", "permission", "unset", "--id=" + ACCOUNT)
        except AgentError as e:  # it goes with the account
            host.journal.say("not needed: {}".format(e))
        host.esxcli("system", "account", "remove", "--id=" + ACCOUNT)
        if has_account(host):
            raise AgentError("the account {} is still there: remove it".format(ACCOUNT))
    return there


def has_account(host):
    return any(row["User ID"] == ACCOUNT for row in host.table(["User ID"], "system", "account", "list"))


def remove_traces(host):
    """Removes the account, and MAAS's file if somebody else has written it. Tells whether the account was there."""
    account = False
    try:
        account = remove_account(host)
    except AgentError as e:
        host.journal.say("cannot remove the account {}: {}".format(ACCOUNT, e))
    path = os.path.join(ROOT, FILE[1:])
    try:
        if os.path.exists(path):
            with open(path, "r+b") as f:  # FAT leaves the data of removed files in place
                f.write(bytes(os.fstat(f.fileno()).st_size))
                f.flush()
                os.fsync(f.fileno())
            os.remove(path)
    except OSError as e:
        host.journal.say("cannot remove {}: {}".format(FILE, e))
    return account
