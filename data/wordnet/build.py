"""Builds synonyms.tsv.gz from WordNet's data files (Debian package `wordnet-base`, /usr/share/wordnet).

    python3 build.py /usr/share/wordnet synonyms.tsv.gz

One line per single word of letters: the word, then every other lemma of every synset it is in, as the EDA code takes
them: '_' and '-' become spaces, letters and spaces only, lower case, sorted. No time stamp, so the bytes repeat.
"""
import collections
import gzip
import re
import sys

folder, output = sys.argv[1:]
synonyms = collections.defaultdict(set)
for part in ("noun", "verb", "adj", "adv"):
    for line in open(f"{folder}/data.{part}", encoding="ascii"):
        if line.startswith("  "):
            continue  # the licence
        fields = line.split(" ")
        count = int(fields[3], 16)
        lemmas = [re.sub(r"\(.*\)$", "", fields[4 + 2 * i]).lower() for i in range(count)]
        cleaned = {re.sub(r"[^a-z ]", "", lemma.replace("_", " ").replace("-", " ")).strip() for lemma in lemmas}
        for lemma in lemmas:
            if re.fullmatch(r"[a-z]+", lemma):
                synonyms[lemma] |= cleaned - {lemma, ""}
lines = ["\t".join([word, *sorted(others)]) for word, others in sorted(synonyms.items()) if others]
with open(output, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=9) as file:
    file.write(("\n".join(lines) + "\n").encode())
print(len(lines), "words", file=sys.stderr)
