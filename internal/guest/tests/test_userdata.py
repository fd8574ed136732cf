"""The owner's script: what is run, and how it is bounded."""

import os
import sys
import time
import unittest
import unittest.mock

from esxi import Quiet

import host
import userdata


class UserDataTest(unittest.TestCase):
    def run_script(self, text):
        journal = Quiet()
        userdata.run(text.encode("utf-8"), journal)
        return [line[len("user-data: "):] for line in journal.lines if line.startswith("user-data: ")]

    def test_interpreter(self):
        for line, want in (("#!/bin/sh", ["/bin/sh"]), ("#! /bin/sh -eu", ["/bin/sh", "-eu"]), ("#!/usr/bin/env sh", ["/bin/sh"]),
                           ("#!/bin/python", [sys.executable]), ("#!/usr/bin/python3 -u", [sys.executable, "-u"]),
                           ("#!/usr/bin/env python3", [sys.executable])):
            with self.subTest(line):
                self.assertEqual(userdata.interpreter(line.encode("ascii") + b"\nx\n"), want)
        for line in ("#!/bin/bash", "#!/bin/sh\r", "#!/bin/sh -c", "#!/bin/sh -e -u", "#!/bin/sh x", "#!sh", "#!/tmp/sh", "#!/bin/../tmp/sh",
                     "#!/usr/bin/python2", "#!/bin/python -c", "#!", "#!/bin/", "#!/usr/bin/env", "#!/usr/bin/env -S sh", "#!/bin/\xff"):
            with self.subTest(line), self.assertRaisesRegex(host.AgentError, "was not run: its first line is "):
                userdata.interpreter(line.encode("latin-1") + b"\n")

    def test_what_is_no_script(self):
        for data, reason in ((b"#cloud-config\nruncmd: [x]\n", "it is cloud-config, for which ESXi has no cloud-init"), (b"\x1f\x8b\x08", "it is gzip"),
                             (b"Content-Type: multipart/mixed", "it is a MIME archive"), (b"MIME-Version: 1.0", "it is a MIME archive"),
                             (b"\x7fELF\x02", "it is a program for Linux"), (b"#include\nhttp://x/", "it is a list of addresses"),
                             (b"echo x\n", "it does not begin with #!"), (b"\n#!/bin/sh\n", "it does not begin with #!"), (b"\0", "it does not begin"),
                             (b"#!/bin/sh\n" + b"#" * userdata.MAX_SIZE, "it has more than 262144 bytes")):
            with self.subTest(data[:20]), self.assertRaisesRegex(host.AgentError, "user-data was not run: " + reason):
                userdata.interpreter(data)

    def test_files_go(self):
        self.assertEqual(self.run_script("#!/bin/sh\necho $0 >&2; pwd\n")[1], "/")
        path = self.run_script("#!/bin/sh\necho $0\n")[0]
        self.assertFalse(os.path.exists(os.path.dirname(path)))

    def test_slow_script_is_stopped_with_all_it_started(self):
        start = time.monotonic()
        with unittest.mock.patch.object(userdata, "TIMEOUT", 1), self.assertRaisesRegex(host.AgentError, "stopped after 1 s"):
            self.run_script("#!/bin/sh\nsleep 60 & sleep 60\n")
        self.assertLess(time.monotonic() - start, 45)

    def test_what_runs_in_the_background_is_not_waited_for(self):
        start = time.monotonic()
        (pid,) = self.run_script("#!/bin/sh\nsleep 60 &\necho $!\n")
        os.kill(int(pid), 9)
        self.assertLess(time.monotonic() - start, 45)

    def test_long_output(self):
        lines = self.run_script("#!/usr/bin/python3\nfor i in range(200000): print(i, 'x' * 50)\n")
        self.assertEqual((len(lines), lines[-1]), (100, "199999 " + "x" * 50))


if __name__ == "__main__":
    unittest.main()
