"""The log of the first boot: a file that survives reboots, and the host's console."""

import os
import sys
import time
import traceback


class Journal:
    """Writes each line through to the disk: the host may be switched off at any time."""

    def __init__(self, path, console="/dev/console"):
        self.path = path
        self.console = console

    def say(self, text):
        text = text.encode("ascii", "backslashreplace").decode("ascii")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with open(self.path, "a") as f:
            f.write("{} {}\n".format(stamp, text))
            f.flush()
            os.fsync(f.fileno())
        print("esxid: " + text, flush=True)
        try:
            with open(self.console, "w") as f:
                f.write("esxid: {}\n".format(text))
        except OSError:  # not every host has one that can be written to
            pass

    def trace(self):
        """Notes where the current exception comes from."""
        for line in traceback.format_exception(*sys.exc_info())[-20:]:
            self.say(line.rstrip())
