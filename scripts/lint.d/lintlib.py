"""What the rules of this directory share: reading C, reporting, self-tests.

A rule is a program of its own.  Called with files it prints one line
"file:line: what is wrong" per finding and exits with 1 if there was any.
Called with --self-test it proves on bad snippets that it fires, and on good
ones that it does not.
"""

import os
import re
import sys
import tempfile


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def blank_c(text):
    """C with the insides of comments and strings blanked, offsets kept."""

    def blank(match):
        found = match.group()
        if found[0] in "\"'":
            return found[0] + re.sub(r"[^\n]", " ", found[1:-1]) + found[0]
        return re.sub(r"[^\n]", " ", found)

    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def parenthesized(text, opening):
    """The text from the parenthesis at this offset to the matching one."""
    depth = 0
    for position in range(opening, len(text)):
        if text[position] == "(":
            depth += 1
        elif text[position] == ")":
            depth -= 1
            if depth == 0:
                return text[opening : position + 1]
    return text[opening:]


def self_test(check, bad, good):
    """Each snippet is (path, text): check must find fault with bad ones only."""
    failures = 0
    for snippets, wanted in ((bad, True), (good, False)):
        for path, text in snippets:
            with tempfile.TemporaryDirectory() as directory:
                file = os.path.join(directory, path)
                os.makedirs(os.path.dirname(file))
                with open(file, "w", encoding="utf-8") as out:
                    out.write(text)
                before = os.getcwd()
                os.chdir(directory)
                found = list(check(path))
                os.chdir(before)
            if bool(found) != wanted:
                failures += 1
                print(f"{sys.argv[0]}: {path}: should {'' if wanted else 'not '}fire:\n{text}")
    return failures


def main(check, bad, good):
    """Run a rule: check(path) yields (line, message)."""
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(1 if self_test(check, bad, good) else 0)
    found = 0
    for path in sys.argv[1:]:
        for line, message in check(path):
            print(f"{path}:{line}: {message}")
            found += 1
    sys.exit(1 if found else 0)
