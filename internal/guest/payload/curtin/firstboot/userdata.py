"""user-data, the owner's script for the machine, run when all else is done.

It runs only if its first line names an interpreter that ESXi has, sh or Python.
It is given to that interpreter as a file, because from 8.0 on ESXi starts
nothing else that is not its own (execInstalledOnly).
"""

import os
import re
import subprocess
import sys
import tempfile
import threading

from host import AgentError, kill

MAX_SIZE = 256 << 10   # bytes
TIMEOUT = 10 * 60      # seconds
MAX_OUTPUT = 16 << 10  # bytes of its output's end that are logged
PLACE = "/tmp"         # in memory
# The interpreter line: a directory of programs, or env; a name; options.
FIRST_LINE = re.compile(r"#![ \t]*(?:/usr)?/bin/(?:env[ \t]+)?([^\s/]+)[ \t]*(.*)")
OPTIONS = {"sh": "(-[efux]+)?", "python": "(-[BEIOSsu]+)?"}
OTHERS = ((b"\x1f\x8b", "gzip"), (b"#cloud-config", "cloud-config, for which ESXi has no cloud-init"),
          (b"Content-Type:", "a MIME archive, for which ESXi has no cloud-init"),
          (b"MIME-Version:", "a MIME archive, for which ESXi has no cloud-init"),
          (b"\x7fELF", "a program for Linux"), (b"#include", "a list of addresses, for which ESXi has no cloud-init"))


def interpreter(data):
    """The command for the script, without its file; a script that ESXi cannot run is an error."""
    if len(data) > MAX_SIZE:
        raise AgentError("user-data was not run: it has more than {} bytes".format(MAX_SIZE))
    for start, what in OTHERS:
        if data.startswith(start):
            raise AgentError("user-data was not run: it is {}: use a script that begins with #!/bin/sh".format(what))
    line = data.split(b"\n", 1)[0].decode("ascii", "replace")
    if not line.startswith("#!"):
        raise AgentError("user-data was not run: it does not begin with #! and an interpreter, as in #!/bin/sh")
    found = FIRST_LINE.fullmatch(line)
    name, options = found.groups() if found else ("", "")
    name = "python" if re.fullmatch("python3?", name) else name
    if name not in OPTIONS or not re.fullmatch(OPTIONS[name], options):
        raise AgentError("user-data was not run: its first line is {!r}; ESXi has /bin/sh and /bin/python".format(line[:100]))
    # The Python of this program is that of this ESXi, wherever the script looks for it.
    return [(sys.executable or "/bin/python") if name == "python" else "/bin/sh"] + options.split()


def run(data, journal):
    """Runs the script to its end. Its failure is an error; the end of what it prints goes to the log."""
    command = interpreter(data)
    with tempfile.TemporaryDirectory(prefix="esxid-", dir=PLACE) as directory:
        path = os.path.join(directory, "user-data")
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, 0o700)
        journal.say("running user-data with {}".format(" ".join(command)))
        status, output = execute(command + [path])
    for line in output.splitlines()[-100:]:
        journal.say("user-data: " + line[:500])
    if status is None:
        raise AgentError("user-data was stopped after {} s".format(TIMEOUT))
    if status != 0:
        raise AgentError("user-data failed with status {}: its output is in the host's firstboot.log".format(status))


def execute(argv):
    """Exit status, None if it took too long, and the end of what it printed. What the script leaves
    running in the background is left alone, unless the script itself is too slow."""
    p = subprocess.Popen(argv, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         start_new_session=True)
    output = Tail(p.stdout)
    output.start()
    try:
        status = p.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        status = None
        kill(p)
    output.join(1)  # the pipe stays open as long as something in the background has it
    return status, output.text()


class Tail(threading.Thread):
    """Reads a pipe to its end and keeps the last bytes."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe, self.kept = pipe, b""

    def run(self):
        with self.pipe:
            data = b"any"
            while data:
                data = os.read(self.pipe.fileno(), 4096)
                self.kept = (self.kept + data)[-MAX_OUTPUT:]

    def text(self):
        return self.kept.decode("utf-8", "replace")
