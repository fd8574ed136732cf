"""Commands on the ESXi host, and what they print."""

import os
import signal
import subprocess
import tempfile
import time

TIMEOUT = 120            # seconds for a command
HOSTD_PATIENCE = 180     # seconds until hostd answers after a start
MAX_OUTPUT = 4 << 20     # bytes of a command's output that are read
MAX_QUOTED = 400         # characters of it in an error


class AgentError(Exception):
    """A failure; its text is for the operator, in MAAS and in the log."""


class Deadline:
    """When this program has to be done: MAAS gives up on a machine after half an hour."""

    def __init__(self, seconds, clock=time):
        self.clock = clock
        self.renew(seconds)

    def renew(self, seconds):
        self.end = self.clock.monotonic() + seconds

    def left(self):
        return max(0, self.end - self.clock.monotonic())


class Step:
    """One change to the host."""

    def __init__(self, do, answer=None, may_fail=False):
        self.do = do
        self.answer = answer  # what the command reads
        self.may_fail = may_fail

    def __str__(self):
        return " ".join(self.do)


class Host:
    def __init__(self, journal, deadline):
        self.journal, self.deadline = journal, deadline
        self.timeout = TIMEOUT
        self.cli = "esxcli"  # or localcli, which does the same without hostd

    def esxcli(self, *args):
        return self.run("esxcli", *args)

    def run(self, *argv, answer=None):
        """Runs a command and returns what it printed; a failure is an error."""
        line, limit = " ".join(argv), min(self.timeout, self.deadline.left())
        if not limit:
            raise AgentError("{}: not started, the time for the first boot is over".format(line))
        if argv[0] == "esxcli":
            argv = (self.cli,) + argv[1:]
        # A file, because services that a command starts would keep a pipe open.
        with tempfile.TemporaryFile() as out:
            status = execute(argv, answer, out, limit)
            out.seek(0)
            text = out.read(MAX_OUTPUT).decode("utf-8", "replace")
        if status is None:
            raise AgentError("{}: not done after {:.0f} s".format(line, limit))
        if status != 0:
            raise AgentError("{}: failed with status {}: {}".format(line, status, quote(text)))
        return text

    def table(self, columns, *args):
        """Rows of one of esxcli's tables, which must have these columns."""
        text = self.esxcli(*args)
        rows = parse_table(text)
        if not rows and "--" not in text or not all(set(columns) <= set(row) for row in rows):
            raise AgentError("cannot understand esxcli {}: {}".format(" ".join(args), quote(text)))
        return rows

    def blocks(self, keys, *args):
        """One of esxcli's lists of blocks, which all must have these keys."""
        text = self.esxcli(*args)
        found = parse_blocks(text)
        if not all(set(keys) <= set(block) for block in found.values()):
            raise AgentError("cannot understand esxcli {}: {}".format(" ".join(args), quote(text)))
        return found

    def fields(self, keys, *args):
        """esxcli's "Key: Value" lines, which must have these keys."""
        text = self.esxcli(*args)
        found = parse_fields(text)
        if not set(keys) <= set(found):
            raise AgentError("cannot understand esxcli {}: {}".format(" ".join(args), quote(text)))
        return found

    def wait_for_hostd(self):
        """esxcli asks hostd, which does not tell when it is ready."""
        patience = Deadline(min(HOSTD_PATIENCE, self.deadline.left()), self.deadline.clock)
        while True:
            try:
                return self.esxcli("system", "version", "get")
            except AgentError as e:
                if not patience.left():
                    raise AgentError("hostd does not answer: {}".format(e))
                self.deadline.clock.sleep(2)


def execute(argv, answer, out, limit):
    """The exit status of a command, None if it was not done in time."""
    try:
        p = subprocess.Popen(argv, stdin=subprocess.PIPE if answer else subprocess.DEVNULL, stdout=out,
                             stderr=subprocess.STDOUT, env=dict(os.environ, LC_ALL="C"), start_new_session=True)
    except OSError as e:
        raise AgentError("cannot run {}: {}".format(argv[0], e))
    try:
        p.communicate(answer, timeout=limit)
        return p.returncode
    except subprocess.TimeoutExpired:
        return None
    finally:
        if p.returncode is None:
            kill(p)


def kill(p):
    """Ends a command with all it has started, as far as the kernel can."""
    try:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait(timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        pass


def quote(text):
    """What a command printed, on one line."""
    text = " ".join(text.split()) or "it printed nothing"
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."


def apply(host, steps):
    """Carries out the steps up to the first one that fails."""
    for step in steps:
        host.run(*step.do, answer=step.answer)


def parse_table(text):
    """Rows of one of esxcli's tables as {column: value}; the line of dashes tells the columns."""
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("--") and set(line.strip()) <= set("- "):
            columns = column_bounds(line)
            names = [lines[i - 1][a:b].strip() for a, b in columns]
            return [dict(zip(names, (row[a:b].strip() for a, b in columns)))
                    for row in lines[i + 1:] if row.strip()]
    return []


def column_bounds(dashes):
    starts = [i for i, c in enumerate(dashes) if c == "-" and (i == 0 or dashes[i - 1] == " ")]
    return list(zip(starts, starts[1:] + [None]))


def parse_blocks(text):
    """esxcli's blocks: an unindented title, then indented "Key: Value" lines; {title: {key: value}}."""
    blocks, current = {}, {}
    for line in text.splitlines():
        if line[:1].strip():
            current = blocks.setdefault(line.strip(), {})
        elif ":" in line:
            key, _, value = line.partition(":")
            current[key.strip()] = value.strip()
    return blocks


def parse_fields(text):
    """"Key: Value" lines as {key: value}."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return dict((key.strip(), value.strip()) for key, _, value in pairs)


def parse_list(text):
    """The comma-separated value of a single "   Key: a, b" line."""
    return [v.strip() for v in text.partition(":")[2].split(",") if v.strip()]
