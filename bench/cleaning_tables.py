"""Prints the tables of `bench/cleaning.sh` as Markdown: python3 bench/cleaning_tables.py FOLDER

Each cell is the mean over seeds and, in brackets, every seed in order. Percent.
"""
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
seeds = sorted(folder.glob("seed-*"))
methods = ["finetune", "cleanclip", "ta-cleaner", "abd", "abd+reference", "par"]


def cell(values):
    return f"{sum(values) / len(values):.1f} ({', '.join(f'{v:.1f}' for v in values)})" if values else "-"


def table(title, columns, rows):
    print(f"{title}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, cells in rows:
        print(f"| {name} | {' | '.join(cells)} |")
    print()


runs = {m: [json.loads((s / m / "summary.json").read_text()) for s in seeds if (s / m / "summary.json").exists()] for m in methods}
methods = [m for m in methods if runs[m]]
victims = next(found for found in runs.values() if found)
attacks = list(victims[0]["evaluation"]["asr"])
percent = lambda rate: 100 * rate["rate"] if rate and rate["rate"] is not None else float("nan")
rows = []
for name, evaluations in [("victim", [v["before"] for v in victims])] + [(m, [r["evaluation"] for r in runs[m]]) for m in methods]:
    cells = [cell([percent(e["zero_shot_top1"]) for e in evaluations])]
    for attack in attacks:
        for rate in ("success", "success_top10", "true_class"):
            cells.append(cell([percent(e["asr"][attack][rate]) for e in evaluations]))
    rows.append((name, cells))
columns = ["zero-shot"] + [f"{a}: {what}" for a in attacks for what in ("ASR", "top 10", "true class kept")]
table(f"Cleaning, seeds {', '.join(s.name[5:] for s in seeds)}", columns, rows)

steps = [point["step"] for point in victims[0]["rebound"]]
for attack in attacks:
    rows = []
    for m in methods:
        curves = [[percent(p["evaluation"]["asr"][attack]["success"] if "evaluation" in p else p["asr"][attack]["success"]) for p in r["rebound"]] for r in runs[m]]
        if curves:
            rebound = [max(c) - c[0] for c in curves]
            rows.append((m, [f"{sum(at) / len(at):.1f}" for at in zip(*curves)] + [cell(rebound)]))
    table(f"Rebound of {attack}: ASR after harmless steps", [str(s) for s in steps] + ["rebound"], rows)
