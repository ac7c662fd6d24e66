"""Builds parts_of_speech.tsv.gz from WordNet's index files (Debian package `wordnet-base`, /usr/share/wordnet).

    python3 build_parts_of_speech.py /usr/share/wordnet parts_of_speech.tsv.gz

One line per part of speech (adjective, adverb, noun, verb): its name, then every single word of letters that is most often that part:
by the counts of tagged text (cntlist.rev), then by the number of senses, then noun before adjective before verb before adverb. No
time stamp, so the bytes repeat.
"""
import collections
import gzip
import re
import sys

folder, output = sys.argv[1:]
parts = {"noun": "1", "adjective": "35", "verb": "2", "adverb": "4"}
files = {"noun": "noun", "adjective": "adj", "verb": "verb", "adverb": "adv"}
tagged = collections.Counter()
for line in open(f"{folder}/cntlist.rev", encoding="ascii"):
    key, _, count = line.split()
    lemma, senses = key.split("%", 1)
    tagged[lemma, senses[0]] += int(count)
rank = collections.defaultdict(dict)
for order, (part, types) in enumerate(parts.items()):
    for line in open(f"{folder}/index.{files[part]}", encoding="ascii"):
        fields = line.split()
        if line.startswith("  ") or not re.fullmatch(r"[a-z]+", fields[0]):
            continue
        count = sum(tagged[fields[0], kind] for kind in types)
        rank[fields[0]][part] = (count, int(fields[2]), -order)
words = collections.defaultdict(list)
for word, found in rank.items():
    words[max(found, key=found.get)].append(word)
lines = ["\t".join([part, *sorted(words[part])]) for part in sorted(parts)]
with open(output, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=9) as file:
    file.write(("\n".join(lines) + "\n").encode())
print({part: len(words[part]) for part in parts}, file=sys.stderr)
