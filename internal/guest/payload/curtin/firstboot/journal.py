"""The log of the first boot: a file that survives reboots, and the host's console."""

import os
import sys
import time
import traceback


class Journal:
    """Writes each line through to the disk: the host may be switched off at any time.

    That the log cannot be written is no reason to stop."""

    def __init__(self, path, console="/dev/console"):
        self.path = path
        self.console = console
        self.secrets = []

    def hide(self, *secrets):
        """Texts that must not be shown, wherever an error may quote them."""
        self.secrets += [s for s in secrets if s]

    def clean(self, text):
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def say(self, text):
        text = self.clean(text).encode("ascii", "backslashreplace").decode("ascii")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for path, mode, line in ((self.path, "a", "{} {}\n".format(stamp, text)),
                                 (self.console, "w", "esxid: {}\n".format(text))):
            try:
                with open(path, mode) as f:
                    f.write(line)
                    f.flush()
                    os.fsync(f.fileno())
            except OSError:  # the bank is full, or the console is none that can be written to
                pass
        try:
            print("esxid: " + text, flush=True)
        except OSError:
            pass

    def trace(self):
        """Notes where the current exception comes from."""
        for line in traceback.format_exception(*sys.exc_info())[-20:]:
            self.say(line.rstrip())
