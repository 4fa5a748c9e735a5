"""Looking into a model that decides: ablation of every head, and what single units tell, against a minute."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from veneer.analysis.decoding import FOLDS, decode_units
from veneer.analysis.text_ablation import text_ablation_effects, text_parts
from veneer.experiments.cddm.settings import Decisions
from veneer.experiments.cddm.store import DecisionsRun
from veneer.experiments.cddm.work import HELD_OUT, Workshop

UNITS, VARIABLES, DECISIONS = 10_000, 6, 512
FLOOR = 60.0
"""Seconds that each may take on two cores."""


def rows() -> list[dict[str, Any]]:
    """All heads of the ready model, by zero and by mean; 10,000 units, six variables, five folds."""
    shop = Workshop(DecisionsRun(Path("benchmark"), Decisions()), torch.device("cpu"))
    prompts = shop.looked[HELD_OUT].first(shop.settings.ablated)
    heads = text_parts(shop.pretrained, ("head",))
    asked = (prompts.tokens, prompts.at, prompts.labels)

    def ablate() -> None:
        for how in ("zero", "mean"):
            text_ablation_effects(shop.pretrained, *asked, how, prompts.answers, heads)

    generator = torch.Generator().manual_seed(0)
    units = torch.randn(DECISIONS, UNITS, generator=generator)
    labels = {f"variable {i}": torch.randint(2, (DECISIONS,), generator=generator) for i in range(VARIABLES)}
    groups = torch.arange(DECISIONS) % 50
    return [
        _row(f"{len(heads)} heads of the ready model, zero and mean, {len(prompts)} decisions", ablate),
        _row(
            f"{UNITS:,} units, {VARIABLES} variables, {FOLDS} folds, {DECISIONS} decisions",
            lambda: decode_units(units, labels, groups),
        ),
    ]


def _row(name: str, work: Callable[[], object]) -> dict[str, Any]:
    began = time.perf_counter()
    work()
    taken = time.perf_counter() - began
    return {"benchmark": name, "seconds": taken, "floor": FLOOR, "ratio": FLOOR / taken}
