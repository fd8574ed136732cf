"""Prints what in the given files is not Python 3.5 or not from the modules both systems have.

ESXi 6.5 and 6.7 have Python 3.5 with a part of its standard library; the hook
keeps to the same so that one rule holds for all of the payload.
"""

import ast
import os
import sys

ALLOWED = {
    "binascii", "contextlib", "email.utils", "hashlib", "http.client", "json", "os", "re", "shutil", "signal", "socket",
    "ssl", "struct", "subprocess", "sys", "tempfile", "threading", "time", "traceback", "urllib.error", "urllib.parse",
    "urllib.request", "zlib",
}


def check(path, siblings):
    with open(path, encoding="ascii") as f:
        source = f.read()
    try:
        tree = ast.parse(source, feature_version=(3, 5))
    except SyntaxError as e:
        yield "{}:{}: {}".format(path, e.lineno, e.msg)
        return
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            if name not in ALLOWED | siblings:
                yield "{}:{}: imports {}".format(path, node.lineno, name)
        for keyword in node.keywords if isinstance(node, ast.Call) else []:
            if keyword.arg in ("capture_output", "text", "encoding") and "subprocess" in ast.dump(node.func):
                yield "{}:{}: subprocess has no {} in Python 3.5".format(path, keyword.value.lineno, keyword.arg)


def main(paths):
    found = []
    for path in paths:
        directory = os.path.dirname(path)
        siblings = {name[:-3] for name in os.listdir(directory) if name.endswith(".py")}
        found.extend(check(path, siblings))
    print("\n".join(found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
