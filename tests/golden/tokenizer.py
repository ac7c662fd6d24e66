"""Writes tokenizer.json with open_clip's tokenizer (pip install open_clip_torch==3.3.0 ftfy==6.3.1)."""
import json
import random
import sys

import open_clip

texts = [
    "", " ", "\t\n", "a", "A dog.", "a photo of a dog", "It's the dog's; they're here, I've said I'm sure we'll see he'd go",
    "DON'T SHOUT!!!", "hello   world", "3.14159 and 1,000,000", "foo_bar-baz", "e-mail: someone@example.com #hash $5 100%",
    "&amp; &lt;b&gt; &quot;x&quot; &#39;y&#39; &#x27; &nbsp; &copy; &eacute; &amp;amp; &amp;lt; &amp;amp;amp;",
    "AT&T R&D &copy 2020 &notit; &unknown; &", "caf\u00e9 na\u00efve \u00fcber Stra\u00dfe \u0130stanbul \u00c5ngstr\u00f6m", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\ud55c\uad6d\uc5b4 \ubb38\uc7a5",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u05e9\u05dc\u05d5\u05dd", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u1f08\u03c1\u03c7\u03b9\u03bc\u03ae\u03b4\u03b7\u03c2 \u039f\u0394\u039f\u03a3", "\U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7",
    "\u2018single\u2019 \u201cdouble\u201d \u2014 \u2013 \u2026", "\ufb01sh \ufb02ag \ufb03", "\uff26\uff35\uff2c\uff2c \uff37\uff29\uff24\uff34\uff28 \uff11\uff12\uff13", "e\u0301 combining", "zero\u200bwidth\ufeff bom", "line\r\nbreak\u2028sep\u0085next",
    "schÃ¶n", "Itâ€™s mojibake", "â€œquotedâ€\u009d", "voilÃ  le travail", "\x00\x01\x02control\x7f", "\x1b[31mred\x1b[0m", "<start_of_text> x <end_of_text>", "<b>bold</b> <i>",
    "\u00bd \u00b2 \u2460 \u2167 \u0663", "a\u00a0b\u3000c", "x" * 300, "word " * 200, "\U0001f600" * 100, "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "http://example.com/a?b=c&d=e", "C++ C# .NET", "''''", "'s 't 're", "I'LL DON'T", "\\n \\t", "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./", "\u20ac\u00a3\u00a5\u20b9 \u00b0C \u00b5m", "na\u00efve caf\u00e9 \u2014 r\u00e9sum\u00e9", "\u01c4\u01c5 \u1e9e \u017f",
]
for path in sys.argv[1:]:
    texts += [line.rstrip("\n") for line in open(path, encoding="utf-8")]
rng = random.Random(0)
words = """street market woman holding umbrella vintage poster, new 2021 design | beautiful sunset over the mountains: stock photo
vector illustration of cartoon kids playing soccer (isolated) actor attends premiere at theatre on february 9, 2012 person's wedding dress &
"close-up" low-angle black/white portrait 50mm f/1.8 #travel @place emoji \U0001f355 pizza \u2764\ufe0f cr\u00e8me br\u00fbl\u00e9e jalape\u00f1o ''quoted'' rock'n'roll we've 1st 2nd 3-d""".split()
while len(texts) < 330:
    texts.append(" ".join(rng.choice(words) for _ in range(rng.randint(1, 30))))
tokenizer = open_clip.get_tokenizer("RN50")
rows = []
for text in texts:
    ids = tokenizer(text)[0].tolist()
    end = len(ids)
    while ids[end - 1] == 0:  # padding; a text ends with 49407
        end -= 1
    rows.append({"text": text, "ids": ids[:end]})
json.dump(rows, open(__file__.replace(".py", ".json"), "w"), ensure_ascii=True, separators=(",", ":"))
print(len(rows))
