"""A run of decisions that was not done but written, as the paper has it or with one thing turned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from veneer.experiments.cddm.settings import Arm, Decisions
from veneer.experiments.cddm.store import DecisionsRun
from veneer.experiments.cddm.work import HELD_OUT

Lie = Literal["looks elsewhere", "fewer units", "less apart", "far later", "near earlier"]
"""What can be turned in a run that is written as the paper has it: from scratch, the first block's head looks
less at numbers than evenly; fewer units tell a variable; classes lie less apart; fine-tuned, the later blocks
are no nearer to the pretrained model than from scratch; the earlier blocks are the nearest."""


def planted(run: DecisionsRun, ends: Mapping[Arm, float], lie: Lie | None = None, **depths: float) -> None:
    """A run whose trials were not done but written: accuracy by arm, and where its heads matter."""
    run.record_inputs({"models": {}, "data": {}, "environment": {"versions": {}}})
    for trial in run.trials():
        end = ends[trial.arm]
        if trial.stage == "train":
            score = {"accuracy": end, "congruent": end, "incongruent": end, "difference": 1.0}
            run.finish(trial, {"steps": [0, 100], "scores": [score] * 2, "losses": [None, 0.5]})
            continue
        wobble = 0.01 * trial.seed
        late = depths.get(trial.arm.replace("-", "_"), 0.5) + wobble
        heads = [(b, h) for b in range(4) for h in range(2)]
        lost = [0.4 * (late if b == 3 else 1 - late if b == 0 else 0.0) + 0.01 * h for b, h in heads]
        same = trial.arm != "scratch"
        near = [0.8 + 0.02 * i + wobble for i in range(4)]
        if lie == "far later":
            near = [0.8 + wobble] * 2 + [0.2 + wobble] * 2
        elif lie == "near earlier":
            near = [0.9 + wobble] * 2 + [0.4 + wobble] * 2
        telling = (2 if same else 5 + trial.seed) if lie != "fewer units" else (8 if same else 2 + trial.seed)
        apart = 0.1 if same == (lie != "less apart") else 0.5
        looks = 0.05 if lie == "looks elsewhere" else 0.4
        tables = {
            "final": pl.DataFrame(
                {"asked": [HELD_OUT, "held-out wording"], "accuracy": [end, 0.5], "decisions": [512, 512]}
            ),
            "ablation": pl.DataFrame(
                {
                    "how": ["zero"] * 8,
                    "kind": ["head"] * 8,
                    "block": [b for b, _ in heads],
                    "head": [h for _, h in heads],
                    "accuracy": [end - own for own in lost],
                    "accuracy_lost": lost,
                    "difference_lost": lost,
                }
            ),
            "generic": pl.DataFrame(
                {
                    "how": ["zero"] * 9,
                    "kind": ["whole", *["head"] * 8],
                    "block": [None, *(b for b, _ in heads)],
                    "head": [None, *(h for _, h in heads)],
                    "loss": [0.5] * 9,
                    "loss_gained": [0.0, *(0.1 * b + 0.01 * h for b, h in heads)],
                }
            ),
            "similarity": pl.DataFrame(
                {
                    "residual": range(5),
                    "cka": [1.0, *(near if same else [0.3] * 4)],
                }
            ),
            "units": pl.DataFrame(
                {
                    "kind": ["mlp"] * 10,
                    "layer": [0] * 10,
                    "unit": range(10),
                    "variable": ["choice"] * 10,
                    "significant": [u < telling for u in range(10)],
                }
            ),
            "silhouettes": pl.DataFrame(
                {
                    "way": ["all units"],
                    "layer": [4],
                    "variable": ["choice"],
                    "separation": [apart + wobble],
                    "stable": [True],
                }
            ),
            "attention": pl.DataFrame(
                {
                    "block": [0, 0],
                    "head": [1, 1],
                    "role": ["relevant", "irrelevant"],
                    "share": [looks + wobble, max(0.0, looks - 0.1)],
                    "expected": [0.1, 0.1],
                }
            ),
        }
        run.finish(trial, {"tables": run.keep_tables(trial, tables)})


PAPER: dict[Arm, float] = {"pretrained": 0.5, "fine-tuned": 0.93, "scratch": 0.92, "shuffled": 0.9}


def made_up(
    folder: Path, ends: Mapping[Arm, float] = PAPER, lie: Lie | None = None, **depths: float
) -> DecisionsRun:
    run = DecisionsRun.open(folder, Decisions(seeds=3))
    planted(run, ends, lie, **{"fine_tuned": 0.9, "scratch": 0.1, **depths})
    return run
