"""Writes ftfy.json: what ftfy makes of mojibake, entities, quotes, widths and control characters.

    pip install ftfy==6.3.1 && python3 ftfy.py
"""
import json
import random
import sys

sys.path = [path for path in sys.path if not path.rstrip("/").endswith(("tests/golden", "."))]  # This file has the package's name.
import ftfy  # noqa: E402

rng = random.Random(0)
phrases = [
    "caf\u00e9 na\u00efve \u00fcber Stra\u00dfe", "\u201cquoted\u201d text \u2014 it\u2019s here\u2026", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03cc\u03c3\u03bc\u03b5", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u015fi\u015fe \u0130stanbul \u011f\u00fc\u00e7l\u00fc", "p\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148",
    "Za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105 ja\u017a\u0144", "l\u0101cis \u0161\u0137\u012bvis \u017c", "\u00e0 la mode, voil\u00e0 le travail", "price \u20ac5 \u00a310 \u00a5200", "\U0001f600 \U0001f44d\U0001f3fd fun \U0001f355", "na \u00e0quele S\u00e3o Paulo",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5", "5 \u00d7 3 \u00f7 2 \u2260 7 \u00b1 1", "\u00a9 2020 Company\u2122 \u00ae", "\u00bfD\u00f3nde est\u00e1 el ni\u00f1o?", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "Ti\u1ebfng Vi\u1ec7t",
]
texts = list(phrases)
encodings = ["latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250", "sloppy-windows-1253", "sloppy-windows-1254",
             "sloppy-windows-1257", "iso-8859-2", "macroman", "cp437"]
for phrase in phrases:
    for encoding in encodings:
        once = phrase.encode("utf-8").decode(encoding)
        texts.append(once)
        if encoding in encodings[:3]:
            try:
                texts.append(once.encode("utf-8").decode("sloppy-windows-1252"))
            except UnicodeError:
                pass
    good = phrase.encode("utf-8")
    texts.append(good.decode("sloppy-windows-1252").replace("\xa0", " "))
    texts.append(good.decode("windows-1252", "replace"))
    texts.append(f"some {good.decode('latin-1')} and {phrase}")
    texts.append(f"{phrase} \u2014 {good.decode('sloppy-windows-1252')}, caf\u00e9")
    texts.append(good.decode("sloppy-windows-1252").lower())
texts += [
    "&amp; &lt;b&gt; &quot;x&quot; &#39;y&#39; &#x27; &nbsp; &copy; &eacute; &amp;amp;", "AT&T R&D &copy 2020 &notit; &unknown; &", "P&EACUTE;REZ &NTILDE; &nTILDE; &AACUTE;",
    "<b>&amp;</b>", "first &amp;\nsecond <i> &amp;\nthird &eacute;", "&#128; &#x80; &#0; &#1114112; &#xd800; &#65;", "&macr;\\_(\u30c4)_/&macr;", "&hellip; it&#x2019;s \ufb02ubberi\ufb01c!",
    "\uff2c\uff2f\uff35\uff24\u3000\uff2e\uff2f\uff29\uff33\uff25\uff33", "\uff76\uff80\uff76\uff85 \uffe5\uffe6 \uff01", "\ufb00 \ufb01 \ufb02 \ufb03 \ufb04 \ufb05 \ufb06 \u0132 \u0133 \u0149 \u01c4 \u01c5 \u01c8 \u01ca", "\u02bc \u2018a\u2019 \u201ab\u201b \u201cc\u201d \u201ed\u201f",
    "line\r\nbreak\rold\u2028sep\u2029para\u0085next", "\x00\x01\x02control\x7f\x0b\x0c\x1f", "\x1b[31mred\x1b[0m \x1b[1;32mx", "zero\u200bwidth\ufeff bom \u206a \ufff9 \ufffc", "e\u0301 a\u030a \u212b \u1e9b\u0323",
    "\x85 \x91quoted\x92 \x93double\x94 \x96 \x97", "\u00c3\u00a0", "\u00c2 \u00a3", "fa\u00c3\u00a7ade \u00c2\u00a35", "\u00c3 la mode", "doesn\u00e2\u20ac\u2122t", "\u00e2\u20ac\u0153quote\u00e2\u20ac\ufffd", "\u00c3\u0192\u00c2\u00a9",
    "caf\u00c3\u00a9 \u2615", "\u00ef\u00bb\u00bfbom", "I'm \u00c5ngstr\u00f6m", "\u00d8\u00a7\u00d9\u201e", "\u0413\u045e\u0412\u0402\u0412\u2122s", "\u221a\u00a9 \u221a\u2020", "\u251c\u2510", "(\u00ac_\u00ac)", "\u00af\\_(\u30c4)_/\u00af",
    "\u00d2\u00d3 \u00b0 \u00d5", "10\u00b0C \u00b5m \u00bd \u00b2", "El Ni\u00f1o \u00a1Hola!", "NESTL\u00c9 \u00ae", "\u00c0\u00e9\u00ee", "\u00ab\u00a0Bonjour\u00a0\u00bb", "\u00ed\u00a0\u00bd\u00ed\u00b8\u008d", "\u00c0\u0080 null", "\ufffd\ufffd", "\x1a sub",
]
alphabet = [chr(c) for c in range(0x80, 0x180)] + list("\u20ac\u2122\u201c\u201d\u2018\u2019\u2022\u0192\u2020\u2013\u2014\u0152\u0160\u017d abcXYZ  ") + list("\u0430\u0431\u0432\u0413\u0414\u03b1\u03b2\u0393\u2261\u221a\u2551\u2502")
for _ in range(150):
    texts.append("".join(rng.choice(alphabet) for _ in range(rng.randint(2, 12))))
rows = [{"text": text, "fixed": ftfy.fix_text(text)} for text in dict.fromkeys(texts)]
json.dump(rows, open(__file__.replace(".py", ".json"), "w"), ensure_ascii=True, separators=(",", ":"))
print(len(rows), sum(row["text"] != row["fixed"] for row in rows))
