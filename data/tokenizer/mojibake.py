"""Writes mojibake.json: the tables by which ftfy 6.3.1 (Apache-2.0, Robyn Speer) finds and mends mojibake.

    pip install ftfy==6.3.1 && python3 mojibake.py
"""
import html
import html.entities
import json
import re

from ftfy import badness, chardata


def compact(pattern):
    """A verbose pattern without its white space and comments; what stands in brackets stays."""
    out, inside, at = [], False, 0
    while at < len(pattern):
        c = pattern[at]
        if c == "\\":
            out.append(pattern[at : at + 2])
            at += 2
            continue
        if inside:
            inside = c != "]"
            out.append(c)
        elif c == "#":
            at = pattern.index("\n", at)
        elif c == "[":
            inside = True
            out.append(c)
        elif not c.isspace():
            out.append(c)
        at += 1
    return "".join(out)


def same(short, long, flags):
    """The short form finds what the long one finds."""
    text = "".join(map(chr, list(range(0x20, 0x600)) + list(range(0x2000, 0x2700)) + [0xF8FF, 0xFB01, 0xFFFD]))
    text = "".join(a + b for a in text[::3] for b in text[::7])
    return [m.span() for m in re.finditer(short, text)] == [m.span() for m in re.finditer(long, text, flags)]


bad = compact(badness.BADNESS_RE.pattern)
assert same(bad, badness.BADNESS_RE.pattern, re.VERBOSE)
clues = chardata.UTF8_CLUES
detector = compact(
    """(?:[{utf8_first_of_2}] [{utf8_continuation}] | [{utf8_first_of_3}] [{utf8_continuation}]{{2}}
    | [{utf8_first_of_4}] [{utf8_continuation}]{{3}})+""".format(**clues)
)
encodings = {}
for name in chardata.CHARMAP_ENCODINGS:
    encodings[name] = bytes(range(0x80, 0x100)).decode(name)
upper = {}
for entity, char in chardata.HTML_ENTITIES.items():
    if html.unescape(entity) != char:
        upper[entity] = char
tables = {
    "bad": bad,
    "detector": detector,
    "continuation": clues["utf8_continuation_strict"],
    "encodings": [{"name": name, "upper_half": half} for name, half in encodings.items()],
    "ligatures": {chr(code): text for code, text in chardata.LIGATURES.items()},
    "upper_case_entities": upper,
}
json.dump(tables, open(__file__.replace(".py", ".json"), "w"), ensure_ascii=True, separators=(",", ":"), sort_keys=True)
print({key: len(value) for key, value in tables.items()})
