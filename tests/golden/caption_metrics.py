"""Writes caption_metrics.json: BLEU by NLTK (of many captions by pycocoevalcap), ROUGE by rouge-score, CIDEr-D by pycocoevalcap, and stems by NLTK.

    pip install nltk==3.10.4 rouge-score==0.1.2 pycocoevalcap==1.2 && python3 caption_metrics.py
"""
import gzip
import json
import random
from pathlib import Path

from nltk.stem.porter import PorterStemmer
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer
from rouge_score.rouge_scorer import RougeScorer

HERE = Path(__file__).parent
random.seed(0)
WEIGHTS = [(1,), (0.5, 0.5), (1 / 3, 1 / 3, 1 / 3), (0.25,) * 4]
THINGS = "dogs cat children bicycle apples runners houses boat flowers skies ponies man".split()
COLOURS = "red green blue tiny shining broken".split()
PLACES = "on the grass|near running water|in a crowded street|beside an old building|under the sky".split("|")
VERBS = "running sits standing jumped lies playing".split()


def sentence():
    words = f"a {random.choice(COLOURS)} {random.choice(THINGS)} {random.choice(VERBS)} {random.choice(PLACES)}".split()
    for _ in range(random.randrange(4)):
        at = random.randrange(len(words))
        if random.random() < 0.5:
            del words[at]
        else:
            words.insert(at, random.choice(THINGS + COLOURS))
    return " ".join(words)


def scores(scorer, caption, references):
    """Precision, recall and F of each kind of ROUGE, means over the references."""
    found = [scorer.score(reference, caption) for reference in references]
    mean = lambda kind, part: sum(getattr(one[kind], part) for one in found) / len(found)
    return [[mean(kind, part) for part in ("precision", "recall", "fmeasure")] for kind in ("rouge1", "rouge2", "rougeL")]


pictures = []
for _ in range(80):
    base = [sentence() for _ in range(random.randrange(1, 6))]
    shape = random.random()
    if shape < 0.15:
        caption = random.choice(base)
    elif shape < 0.6:
        words = random.choice(base).split()
        words[random.randrange(len(words))] = random.choice(THINGS)
        caption = " ".join(words[: random.randrange(2, len(words) + 1)])
    else:
        caption = sentence()
    pictures.append({"caption": caption, "references": base})

cider = CiderScorer(n=4, sigma=6.0)
for picture in pictures:
    cider += (picture["caption"], picture["references"])
_, cider_scores = cider.compute_score()
plain, stemmed = (RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=use) for use in (False, True))
add_one = SmoothingFunction().method2
for picture, score in zip(pictures, cider_scores):
    caption, references = picture["caption"].split(), [reference.split() for reference in picture["references"]]
    picture["bleu"] = [sentence_bleu(references, caption, weights) for weights in WEIGHTS]
    picture["bleu_add_one"] = [sentence_bleu(references, caption, weights, smoothing_function=add_one) for weights in WEIGHTS]
    picture["rouge"] = scores(plain, picture["caption"], picture["references"])
    picture["rouge_stemmed"] = scores(stemmed, picture["caption"], picture["references"])
    picture["cider_d"] = float(score)

corpus = BleuScorer(n=4)
for picture in pictures:
    corpus += (picture["caption"], picture["references"])
corpus_bleu, _ = corpus.compute_score(option="closest")
merges = gzip.decompress((HERE / "../../data/tokenizer/bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().splitlines()
whole = {"".join(line.split()).removesuffix("</w>") for line in merges[1:48895] if line.endswith("</w>")}
english = sorted(word for word in whole if word.isascii() and word.isalpha() and word.islower() and len(word) > 2)
extra = "skies dying lying tying news innings outings cannings howe proceed exceed succeed enjoyment spied tied ties".split()
extra += "relational conditional valenci digitizer radically differently vilely analogously vietnamization predication".split()
extra += "operator feudalism decisiveness hopefulness callousness formality sensitivity sensibility hopefully apology".split()
extra += "triplicate formative formalize electricity electrical goodness adoption communion controlling rolled agreed feed".split()
stemmer = PorterStemmer()
result = {
    "pictures": pictures,
    "corpus_bleu": corpus_bleu,
    "stems": {word: stemmer.stem(word) for word in english[::12] + extra},
}
(HERE / "caption_metrics.json").write_text(json.dumps(result, indent=None, separators=(",", ":")) + "\n")
