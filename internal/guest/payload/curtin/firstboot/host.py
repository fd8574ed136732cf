"""Commands on the ESXi host, and reversible steps made of them."""

import os
import subprocess

TIMEOUT = 120  # seconds


class AgentError(Exception):
    """A failure; its text is for the operator, in MAAS and in the log."""


class Step:
    """One change: a command, and those that undo it, in order."""

    def __init__(self, do, *undo, answer=None, may_fail=False):
        self.do, self.undo = do, undo
        self.answer = answer  # what the command reads
        self.may_fail = may_fail
        self.done = False

    def __str__(self):
        return " ".join(self.do)


class Host:
    def __init__(self, journal):
        self.journal = journal

    def esxcli(self, *args):
        return self.run("esxcli", *args)

    def run(self, *argv, answer=None):
        """Runs a command and returns what it printed; a failure is an error."""
        try:
            p = subprocess.Popen(argv, stdin=subprocess.PIPE if answer else subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, env=dict(os.environ, LC_ALL="C"))
        except OSError as e:
            raise AgentError("cannot run {}: {}".format(argv[0], e))
        try:
            text = p.communicate(answer, timeout=TIMEOUT)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            raise AgentError("{}: not done after {} s".format(" ".join(argv), TIMEOUT))
        if p.returncode != 0:
            raise AgentError("{}: failed with status {}: {}".format(
                " ".join(argv), p.returncode, " ".join(text.split())))
        return text


def apply(host, steps):
    """Carries out all steps, or leaves the host as it was."""
    for step in steps:
        try:
            host.run(*step.do, answer=step.answer)
        except AgentError as e:
            if step.may_fail:
                host.journal.say("not needed: {}".format(e))
                continue
            undo(host, steps)
            raise
        step.done = True


def undo(host, steps):
    """Undoes what was done of the steps, the last first, as far as that works."""
    for step in reversed(steps):
        for command in step.undo if step.done else ():
            try:
                host.run(*command)
            except AgentError as e:
                host.journal.say("cannot undo \"{}\": {}".format(step, e))
        step.done = False


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
