"""Reads the YAML that MAAS sends; ESXi's Python has no library for it.

MAAS writes vendor-data with PyYAML's safe_dump. This reads what that writes for
maps and lists of text: in blocks (a list may stand in its key's column) or in
brackets, with plain, 'single' and "double" quoted text, over several lines too.
Text stays text, 0644 and true as well; an empty value, null and ~ are None.

The rest of YAML is refused, with the number of the line: anchors and aliases,
tags, text after | and >, keys after ?, merge keys, directives, a second
document, tabs that indent, a key given twice. Errors never quote the text: it
may be a password.
"""

import re

MAX_TEXT = 256 << 10  # characters
MAX_DEPTH = 16        # of lists and maps in each other

NOT_PRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffc\U00010000-\U0010ffff]")
SPACE = re.compile(r"[ \t]*")
# Plain text on one line ends before ": " and " #", and in brackets before these.
PLAIN = re.compile(r"(?:[^\n:#]|:(?=\S)|(?<=\S)#)*")
PLAIN_IN_BRACKETS = re.compile(r"(?:[^\n:#,\[\]{}]|:(?=[^\s,\[\]{}])|(?<=[^\s,\[\]{}])#)*")
BREAKS = re.compile(r"[ \t]*\n(?:[ \t]*\n)*[ \t]*")
SINGLE = re.compile(r"'((?:[^']|'')*)'")
DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
ESCAPE = re.compile(r"\\\n((?:[ \t]*\n)*)[ \t]*"
                    r"|\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)"
                    r"|[ \t]*\n(?:[ \t]*\n)*[ \t]*")
ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
           " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"}
REFUSED = {"&": "anchors are not supported", "*": "aliases are not supported", "!": "tags are not supported",
           "|": "block text is not supported", ">": "block text is not supported",
           "%": "directives are not supported", "@": "@ begins no text", "`": "` begins no text",
           ",": ", begins no text", "]": "] without [", "}": "} without {"}


class YAMLError(ValueError):
    """What cannot be read, and in which line."""


def read(text):
    """The document as dicts, lists, strings and None."""
    return Reader(text.replace("\r\n", "\n")).document()


class Reader:
    def __init__(self, text):
        self.text, self.at = text, 0
        if len(text) > MAX_TEXT:
            raise YAMLError("it has more than {} characters".format(MAX_TEXT))
        bad = NOT_PRINTABLE.search(text)
        if bad:
            self.fail("a character that cannot be printed", bad.start())

    def fail(self, why, at=None):
        at = self.at if at is None else at
        raise YAMLError("line {}: {}".format(self.text.count("\n", 0, at) + 1, why))

    # Where the reader is.

    def char(self):
        return self.text[self.at:self.at + 1]

    def column(self):
        return self.at - (self.text.rfind("\n", 0, self.at) + 1)

    def begins(self, word):
        """Whether this word, with something blank behind it, is here."""
        end = self.at + len(word)
        return self.text.startswith(word, self.at) and (end == len(self.text) or self.text[end] in " \t\n")

    def ended(self):
        return self.at >= len(self.text) or self.column() == 0 and (self.begins("---") or self.begins("..."))

    def skip(self):
        """Goes on to the next thing that is neither blank nor comment; tells whether it is on a later line."""
        start = self.at
        while True:
            self.at = SPACE.match(self.text, self.at).end()
            if self.char() == "#":
                if self.at > 0 and self.text[self.at - 1] not in " \t\n":
                    self.fail("no blank before #")
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            if self.char() != "\n":
                break
            self.at += 1
        skipped = self.text[start:self.at]
        later = "\n" in skipped
        if (later or start == 0) and "\t" in skipped[skipped.rfind("\n") + 1:] and self.at < len(self.text):
            self.fail("a tab indents")
        return later

    # Blocks, which indentation holds together.

    def document(self):
        self.skip()
        if self.begins("---") and self.column() == 0:
            self.at += 3
            self.skip()
        value = None if self.ended() else self.block(-1, 0)
        self.skip()
        if self.begins("...") and self.column() == 0:
            self.at += 3
            self.skip()
        if self.at < len(self.text):
            self.fail("a second document" if self.ended() else "this belongs to nothing before it")
        return value

    def block(self, indent, depth):
        """What is here; it belongs to the collection in column indent."""
        if self.begins("-"):
            return self.sequence(self.column(), depth)
        start = self.at
        if self.key() is None:
            return self.line_end(self.scalar(indent, depth))
        self.at = start
        return self.mapping(self.column(), depth)

    def sequence(self, column, depth):
        self.deeper(depth)
        values = []
        while not self.ended() and self.column() == column and self.begins("-"):
            self.at += 1
            later = self.skip()
            empty = self.ended() or later and self.column() <= column
            values.append(None if empty else self.block(column, depth + 1))
            self.skip()
        self.leave(column)
        return values

    def mapping(self, column, depth):
        self.deeper(depth)
        values = {}
        while not self.ended() and self.column() == column and not self.begins("-"):
            start = self.at
            key = self.check_key(self.key(), values, start)
            values[key] = self.value(column, depth)
            self.skip()
        self.leave(column)
        return values

    def value(self, column, depth):
        """What follows a key in this column."""
        if not self.skip() and not self.ended():
            start = self.at
            if self.begins("-") or self.key() is not None:
                self.fail("a list or a key behind a key", start)
            return self.line_end(self.scalar(column, depth + 1))
        if not self.ended() and (self.column() > column or self.column() == column and self.begins("-")):
            return self.block(column, depth + 1)
        return None

    def check_key(self, key, values, start):
        if key is None:
            self.fail("neither a key nor part of what is before it", start)
        if key == "<<":
            self.fail("merge keys are not supported", start)
        if key in values:
            self.fail("a key for the second time", start)
        return key

    def deeper(self, depth):
        if depth >= MAX_DEPTH:
            self.fail("more than {} levels".format(MAX_DEPTH))

    def leave(self, column):
        if not self.ended() and self.column() > column:
            self.fail("indented further than what it belongs to")

    def line_end(self, value):
        """Only a comment may follow on the same line."""
        if not self.skip() and not self.ended():
            self.fail("more text behind a value")
        return value

    def key(self):
        """Reads a key with its colon; None, and stays, if there is none."""
        start = self.at
        if self.begins("?"):
            self.fail("keys behind ? are not supported")
        if self.char() in ("[", "{"):
            return None
        if self.char() in ("'", '"'):
            text = self.quoted()
            self.at = SPACE.match(self.text, self.at).end()
        else:
            found = PLAIN.match(self.text, self.at)
            text, self.at = found.group().rstrip(), found.end()
        if self.begins(":") and "\n" not in self.text[start:self.at] and text:
            self.check_start(start)
            self.at += 1
            return text
        self.at = start
        return None

    # Text, and collections in brackets.

    def scalar(self, indent, depth, brackets=False):
        if self.char() in ("[", "{"):
            return self.brackets(depth)
        if self.char() in ("'", '"'):
            return self.quoted()
        text = self.plain(indent, brackets)
        return None if text in ("~", "null", "Null", "NULL") else text

    def check_start(self, at):
        if at >= len(self.text):
            self.fail("the text ends where a value is expected")
        if self.text[at] in REFUSED:
            self.fail(REFUSED[self.text[at]], at)
        if self.text[at] in "?-:" and self.text[at + 1:at + 2].strip() == "":
            self.fail("{} begins no text".format(self.text[at]), at)

    def plain(self, indent, brackets):
        self.check_start(self.at)
        if brackets and self.char() in "?:":
            self.fail("{} begins no text in brackets".format(self.char()))
        pattern = PLAIN_IN_BRACKETS if brackets else PLAIN
        text = ""
        while True:
            found = pattern.match(self.text, self.at)
            if not found.group().strip():
                self.fail("this begins no text")
            text += found.group().rstrip(" \t")
            self.at = found.end()
            gap = BREAKS.match(self.text, self.at)
            if not gap:
                return text
            back, self.at = self.at, gap.end()
            over = self.ended() or self.char() == "#" or self.column() <= indent
            if over or brackets and self.char() in ",[]{}:":
                self.at = back
                return text
            text += fold(gap.group())

    def quoted(self):
        start = self.at
        found = (SINGLE if self.char() == "'" else DOUBLE).match(self.text, start)
        if not found:
            self.fail("a quotation mark that is never closed")
        self.at = found.end()
        if self.text[start] == "'":
            return BREAKS.sub(lambda m: fold(m.group()), found.group(1)).replace("''", "'")
        return ESCAPE.sub(lambda m: self.unescape(m, start), found.group(1))

    def unescape(self, found, start):
        line_breaks, code = found.groups()
        if line_breaks is not None:
            return line_breaks.count("\n") * "\n"
        if code is None:
            return fold(found.group())
        if code in ESCAPES:
            return ESCAPES[code]
        number = int(code[1:], 16) if len(code) > 1 else -1
        if not 0 <= number < 0x110000 or 0xd800 <= number < 0xe000:
            self.fail("text in double quotes with an escape that is none", start)
        return chr(number)

    def brackets(self, depth):
        self.deeper(depth)
        start, end = self.at, {"[": "]", "{": "}"}[self.char()]
        values = [] if end == "]" else {}
        self.at += 1
        while True:
            self.skip()
            if self.char() != end:
                self.bracket_item(values, depth)
                self.skip()
            if self.char() == end:
                self.at += 1
                return values
            if self.char() != ",":
                self.fail("a bracket that is not closed as it should be", start)
            self.at += 1

    def bracket_item(self, values, depth):
        start = self.at
        item = self.scalar(-1, depth + 1, brackets=True)
        if not isinstance(values, dict):
            values.append(item)
            return
        self.skip()
        if self.char() != ":" or not isinstance(item, str):
            self.fail("no key and value between { and }", start)
        self.check_key(item, values, start)
        self.at += 1
        self.skip()
        values[item] = None if self.char() in (",", "}") else self.scalar(-1, depth + 1, brackets=True)


def fold(gap):
    """What line breaks in text mean: one is a blank, each further one a line break."""
    return (gap.count("\n") - 1) * "\n" or " "
