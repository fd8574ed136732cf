"""The reader of MAAS's YAML."""

import os
import random
import sys
import time
import unittest

from machine import HERE, PAYLOAD

sys.path.insert(0, os.path.join(PAYLOAD, "firstboot"))

import cloudconfig  # noqa: E402


def sample(name):
    with open(os.path.join(HERE, "../testdata/metadata", name)) as f:
        return f.read()


class ReadTest(unittest.TestCase):
    def test_vendor_data_of_maas(self):
        outer = cloudconfig.read(sample("vendor-data"))
        self.assertEqual(list(outer), ["cloud-init"])
        config = cloudconfig.read(outer["cloud-init"])
        self.assertEqual(config["ntp"], {"pools": ["ntp.example"], "servers": ["10.40.0.2"]})
        self.assertEqual(config["snap"], {"commands": ['snap set system proxy.http="http://10.40.0.2:8000/" '
                                                       'proxy.https="http://10.40.0.2:8000/"']})
        self.assertEqual(config["system_info"], {"default_user": {"gecos": "Ada Example,,,,", "name": "ubuntu"}})
        (file,) = config["write_files"]
        self.assertEqual(file["path"], "/altbootbank/maas/vcenter.yaml")
        self.assertEqual(cloudconfig.read(file["content"]), {
            "vcenter_datacenter": "DC1", "vcenter_password": "example-Passw0rd!", "vcenter_server": "vc.lab.example",
            "vcenter_username": "joiner@vsphere.local"})

    def test_values(self):
        for text, want in (
                ("", None), ("# nothing\n", None), ("---\n", None), ("--- x\n", "x"), ("---\na: b\n...\n", {"a": "b"}),
                ("a: 0644\nb: true\nc:\nd: ~\ne: null\nf: ''\n", {"a": "0644", "b": "true", "c": None, "d": None, "e": None, "f": ""}),
                ("a:\n- b\n- c\nd: e", {"a": ["b", "c"], "d": "e"}), ("a:\n  - b\n  -\n  - d\n", {"a": ["b", None, "d"]}),
                ("- - a\n  - b\n- c: d\n  e: f\n", [["a", "b"], {"c": "d", "e": "f"}]),
                ("a: one\n  two\n\n  three\nb: x # y\n", {"a": "one two\nthree", "b": "x"}),
                ("a: b#c\nd: http://e:80/\n", {"a": "b#c", "d": "http://e:80/"}), ("a:\n  - b - c\n", {"a": ["b - c"]}),
                ("a: 'it''s\n\n  two\n  three'\n", {"a": "it's\ntwo three"}),
                ('a: "x\\ty\\\n  \\  z\\u00fc\\x21\n  w"\n', {"a": "x\ty  z\u00fc! w"}), ('"a: b": c\n', {"a: b": "c"}),
                ("a: [b, 'c', \"d\", [e], {f: g}]\nh: []\ni: {}\n", {"a": ["b", "c", "d", ["e"], {"f": "g"}], "h": [], "i": {}}),
                ("a: [b,\n  c d\n  e,\n]\n", {"a": ["b", "c d e"]}), ("{a: , b: c}", {"a": None, "b": "c"}),
                ("a: b\r\nc: d\r\n", {"a": "b", "c": "d"}), ("a: -b\nc: ?d\ne: :f\n", {"a": "-b", "c": "?d", "e": ":f"})):
            with self.subTest(text):
                self.assertEqual(cloudconfig.read(text), want)

    def test_what_is_refused(self):
        for text, want in (
                ("a: &x b", "line 1: anchors"), ("a: b\nc: *x", "line 2: aliases"), ("a: !!binary x", "line 1: tags"),
                ("a: |\n  b\n", "line 1: block text"), ("a: >\n  b\n", "line 1: block text"), ("%YAML 1.1\n---\na: b", "line 1: directives"),
                ("? a\n: b", "line 1: keys behind ?"), ("<<: a", "line 1: merge keys"), ("a: b\n---\nc: d", "line 2: a second document"),
                ("a: b\n...\nc: d", "line 3: this belongs to nothing"), ("a:\n\tb: c", "line 2: a tab indents"),
                ("a: 1\nb: 2\na: 3", "line 3: a key for the second time"), ("{a: 1, a: 2}", "line 1: a key for the second time"),
                ("a: b: c", "line 1: a list or a key behind a key"), ("a: - b", "line 1: a list or a key behind a key"),
                ("a: b\n  c: d", "line 2: more text behind a value"), ("a:\n  b: c\n d: e", "line 3: "), ("a:\n  - b\n c", "line 3: "),
                ("a: b\nc", "line 2: neither a key"), ("a: 'b", "line 1: a quotation mark"), ('a:\n - "b', "line 2: a quotation mark"),
                ("a: 'b' c", "line 1: more text"), ('a: "\\q"', "line 1: text in double quotes"), ('a: "\\ud800"', "line 1: text in double"),
                ("a: [b", "line 1: a bracket"), ("a: [b\nc: d", "line 1: a bracket"), ("a: {b}", "line 1: no key and value"),
                ("a: {b: c]", "line 1: a bracket"), ("a: [? b]", "line 1: ?"), ("a: ]", "line 1: ] without"), ("[a]: b", "line 1: more text"),
                ("a: @b", "line 1: @"), ("a: \x07", "line 1: a character"), ("a: b\n\ufffd", "line 2: a character"),
                ("a:\n" + "- " * 20 + "b", "line 2: more than 16 levels"), ("[" * 20, "line 1: more than 16 levels"),
                ("a" * (cloudconfig.MAX_TEXT + 1), "more than 262144 characters"), ("a: b #c\n#d\n  e", "line 3: ")):
            with self.subTest(text[:100]), self.assertRaises(cloudconfig.YAMLError) as caught:
                cloudconfig.read(text)
            self.assertIn(want, str(caught.exception))

    def test_errors_do_not_quote(self):
        text = cloudconfig.read(sample("vendor-data"))["cloud-init"]
        failed = 0
        for end in range(len(text)):
            for broken in (text[:end], text[:end] + "\"" + text[end:], text[:end] + ": " + text[end:]):
                try:
                    cloudconfig.read(broken)
                except cloudconfig.YAMLError as e:
                    failed += 1
                    self.assertNotIn("Passw0rd", str(e))
        self.assertGreater(failed, 100)

    def test_broken_text_is_an_error_and_no_crash(self):
        """Fuzzing: what MAAS sends, with a few changes; the same ones in each run."""
        inner = cloudconfig.read(sample("vendor-data"))["cloud-init"]
        flow = "a: [b, 'c', {d: e, \"f\": g}]\nh: {}\ni:\n  - - x\n    - y: z\nj: 'k''l\n\n  m'\nn: \"o\\\n  p\\tq\" # r\n"
        odd = "ab \n\t:-#[]{},'\"\\&*!|>%@`?~<.=\u00fc\r\0"
        accepted = 0
        for seed in range(4000):
            pick = random.Random(seed)
            text = list(pick.choice((sample("vendor-data"), inner, flow)))
            for _ in range(pick.randint(1, 6)):
                at, kind = pick.randrange(len(text) + 1), pick.randrange(4)
                if kind == 0:
                    del text[at:at + pick.randint(1, 20)]
                elif kind == 1:
                    start = pick.randrange(len(text) + 1)
                    text[at:at] = text[start:start + pick.randint(1, 30)]
                else:
                    text.insert(at, pick.choice(odd))
            with self.subTest(seed=seed):
                try:
                    cloudconfig.read("".join(text))
                    accepted += 1
                except cloudconfig.YAMLError:
                    pass
        self.assertTrue(1000 < accepted < 3000, accepted)

    def test_long_text_is_read_fast(self):
        size, start = cloudconfig.MAX_TEXT, time.process_time()
        for text in ("- a\n" * (size // 4), "a: " + "b " * (size // 2 - 2), "a: " + "b\n  " * (size // 4 - 1), '"' + "\\" * (size - 1),
                     "'" * size, "[" + "a," * (size // 2 - 1), "\n" * size, "#" * size, "a: [" + "\n" * (size - 4),
                     "".join("{:07}: x\n".format(n) for n in range(size // 11))):
            try:
                cloudconfig.read(text)
            except cloudconfig.YAMLError:
                pass
        self.assertLess(time.process_time() - start, 10)


if __name__ == "__main__":
    unittest.main()
