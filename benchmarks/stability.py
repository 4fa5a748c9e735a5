"""How far verdicts on few seeds agree with that on many: sets of a run's seeds, each judged by itself.

python -m benchmarks.stability RUN [--sizes 3 4] [--sets 60] [--from-seed 9]
"""

import argparse
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from veneer.analysis.verdict import decide
from veneer.experiments.evidence import evidence_of
from veneer.experiments.store import Run


def verdicts(run: Run, metrics: pl.DataFrame) -> dict[str, str]:
    """The verdict on each setting and constructed model, as a word; what it leans to in brackets."""
    found = {}
    for values, start, evidence in evidence_of(run, metrics):
        verdict = decide(evidence)
        setting = (
            f"{values['fine_tuning_rate']:g}, C_Tr {values['c_tr']:g}" if start == "capability" else start
        )
        found[setting] = verdict.kind + (f" ({verdict.leaning})" if verdict.leaning else "")
    return found


def sets_of(seeds: Sequence[int], size: int, most: int) -> Iterator[tuple[int, ...]]:
    """Up to ``most`` different sets of ``size`` seeds, the same ones each time."""
    every = list(itertools.combinations(seeds, size))
    random.Random(size).shuffle(every)
    yield from every[:most]


def main() -> None:
    """Print the verdict on all seeds, then how often sets of few give which."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--from-seed", type=int, default=0, help="leave out the seeds before this one")
    chosen = parser.parse_args()
    run = Run.read(chosen.run)
    metrics = run.metrics().filter(pl.col("seed") >= chosen.from_seed)
    seeds = sorted(metrics["seed"].unique().to_list())
    whole = verdicts(run, metrics)
    for setting, word in whole.items():
        print(f"{len(seeds)} seeds  {setting}: {word}")
    for size in chosen.sizes:
        told: dict[str, Counter[str]] = {setting: Counter() for setting in whole}
        for chosen_seeds in sets_of(seeds, size, chosen.sets):
            for setting, word in verdicts(run, metrics.filter(pl.col("seed").is_in(chosen_seeds))).items():
                told[setting][word] += 1
        for setting, words in told.items():
            print(f"{size} seeds  {setting}: " + ", ".join(f"{n} {word}" for word, n in words.most_common()))


if __name__ == "__main__":
    main()
