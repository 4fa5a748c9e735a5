"""Runs whose numbers are made up, for the claims: the paper's results, but for what a test changes."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import polars as pl

from tests.report.fakes import store_analysis
from veneer.claims.evidence import Finding
from veneer.claims.list import claims, evaluate
from veneer.claims.needs import SHOWING_REFT
from veneer.claims.view import View
from veneer.experiments.named import PRESETS, CounterExperiment, Experiment
from veneer.experiments.store import KEYS, Run, write_json
from veneer.pcfg.families import SampleLayout

Number = float | Callable[[int], float]
Rows = list[dict[str, Any]]
GUESS = 0.2
EITHER, YES, NO = "undecidable at this size", "replicated", "not replicated"
KINDS = [(texts, operand) for texts in ("natural", "uncorrelated", "correlated") for operand in ("pt", "ft")]


def wavering(low: float, high: float) -> Callable[[int], float]:
    """A number that no threshold between separates: low for even seeds, high for odd ones."""
    return lambda seed: high if seed % 2 else low


def at(value: Number, seed: int) -> float:
    """A seed's value, a little apart from other seeds'."""
    return value(seed) if callable(value) else value + 0.002 * (seed % 3)


def cell(
    name: str, rate: float, c_tr: float | None, seed: int, *, tuned_at: float | None = None, **more: Any
) -> dict[str, Any]:
    """The columns that identify a cell; with tuned_at, of a reFT after fine-tuning at that rate."""
    stage = "reft" if tuned_at is not None else "fine-tune"
    keys = {"capability": name, "start": "capability", "task": "task", "stage": stage, "seed": seed}
    keys |= {"learning_rate": rate, "fine_tuning_rate": tuned_at or rate, "c_tr": c_tr, "parent": ""}
    keys |= {"status": "done", **more}
    return {**keys, "cell": f"{name}/{keys['start']}/{stage}/{rate}/{tuned_at}/{c_tr}/{seed}"}


def accuracies(keys: dict[str, Any], end: dict[str, Number], start: dict[str, Number]) -> Rows:
    """A fine-tuning's metrics: accuracies before and after, of what is not named GUESS."""
    seed = keys["seed"]
    return [
        {**keys, "step": step, "measure": "accuracy", "texts": texts, "operand": operand}
        | {"value": at(values.get(f"{texts}_{operand}", GUESS), seed)}
        for step, values in ((0, start), (100, end))
        for texts, operand in KINDS
    ]


def curve(keys: dict[str, Any], time: float, last: float = 0.97) -> Rows:
    """A reFT's metrics: O_PT reaches its last accuracy after some updates."""
    steps = sorted({0, round(time / 2), round(time), round(time * 2), 800} | {800})
    return [
        {**keys, "step": step, "measure": "accuracy", "texts": "natural", "operand": "pt"}
        | {"value": 0.1 if step < time else last}
        for step in steps
        if step <= 800
    ]


class Made:
    """What ``View`` reads of a run, without one."""

    def __init__(self, path: Path, experiment: Experiment, rows: Rows) -> None:
        self.path = path
        self.rows = rows
        fields = json.loads(json.dumps(asdict(experiment)))
        self.experiment = {"name": experiment.name, "preset": "quick", "fields": fields}

    def metrics(self) -> pl.DataFrame:
        schema = {**KEYS, "step": pl.Int64, "measure": pl.String, "texts": pl.String}
        return pl.DataFrame(self.rows, schema={**schema, "operand": pl.String, "value": pl.Float64})

    def baselines(self, task: str) -> dict[str, Any]:
        assert task == "task"
        return {texts: {"majority": {"pt": GUESS, "ft": GUESS}} for texts, _ in KINDS}

    def capability(
        self, name: str, prior: tuple[float, ...], iterations: int = 6000, own: bool = False
    ) -> None:
        """Files of a learned capability, whose seeds share one pretraining or have their own."""
        for seed in range(9):
            folder = self.path / "capabilities" / f"{name}-seed-{seed}"
            about = {"kind": "learned", "operand_prior": prior, "iterations": iterations, "parameters": 1000}
            key = str(seed) if own else "0"
            origin = {"capability": key, "name": name, "noise": 0.0, "seed": seed, "start": "capability"}
            measured = {"as_started": {texts: {"pt": 1.0, "ft": 1.0} for texts, _ in KINDS}}
            content = {"origin": origin, "texts": 100, "accuracy": measured, "about": about}
            write_json(folder / "accuracy.json", content)
            write_json(folder / "model.json", {"metadata": {"layout": SampleLayout().describe()}})

    def table(self, name: str, rows: Rows) -> None:
        """A table of ``veneer analyse``."""
        store_analysis(self.path, name, rows)

    @property
    def view(self) -> View:
        return View(cast(Run, self))


def answer(number: str, *made: Made) -> Finding:
    """What these runs say about a claim; every answer must be a sentence that fits its outcome."""
    (claim,) = claims([number])
    found = evaluate(claim, [run.view for run in made])
    assert found.explanation.startswith(found.outcome.removesuffix(" at this size"))
    assert found.explanation.endswith(".") or found.outcome == "no run"
    return found


COUNTER = CounterExperiment(seeds=5, c_tr=(0.0, 0.5, 0.8, 1.0), reft_iterations=SHOWING_REFT)


def counter(
    path: Path,
    *,
    wrong: Number = 0.2,
    large: Number = 0.97,
    small: Number = 0.15,
    back: float = 0.97,
    hardly: float = 0.25,
    known: float = 0.97,
    control: Callable[[int], float] = lambda seed: 400.0 + seed,
    too_large: bool = False,
    seeds: int = 5,
) -> Made:
    """The Counter's run as the paper has it, but for what is given.

    Args:
        path: its folder.
        wrong: O_FT accuracy at C_Te = 0 after C_Tr = 1.
        large: the same after large rates with less C_Tr.
        small: the same after small rates.
        back: O_PT accuracy after reFT of what was fine-tuned at 1e-2 or less.
        hardly: the same with C_Tr = 0.5.
        known: the same of a model that is known to be wrapped.
        control: by seed, updates that Scr. + FT needs to get O_PT; reFT needs 50.
        too_large: whether there is reFT at 1e-2 too, by which the control is soon there and reFT late.
        seeds: how many.
    """
    rows: Rows = []
    for seed in range(seeds):
        if too_large:
            at_once = cell("compiled", 1e-2, 0.0, seed, tuned_at=0.1, start="scratch")
            rows += curve(at_once, 30 + seed)
        for rate in (0.1, 0.01, 0.001, 0.0001):
            for c in (0.0, 0.5, 0.8, 1.0):
                little = large if rate > 5e-3 else small
                right: Number = 0.97 if c or rate > 5e-3 else GUESS
                end: dict[str, Number] = {
                    "correlated_ft": right,
                    "uncorrelated_ft": little if c < 1 else wrong,
                }
                rows += accuracies(cell("compiled", rate, c, seed), end, {"natural_pt": 0.99})
                last = 0.2 if rate > 0.05 else hardly if c == 0.5 else back
                rows += curve(cell("compiled", 1e-4, c, seed, tuned_at=rate), 50 + seed, last)
                if too_large and rate < 5e-3:
                    rows += curve(cell("compiled", 1e-2, c, seed, tuned_at=rate), 600 + seed, last)
        scratch = cell("compiled", 1e-4, 0.0, seed, tuned_at=0.1, start="scratch")
        rows += curve(scratch, control(seed))
        wrapper = cell("compiled", 1e-4, None, seed, start="wrapped: constant answer")
        rows += curve({**wrapper, "stage": "reft", "fine_tuning_rate": None}, 40 + seed, known)
    return Made(path, replace(COUNTER, seeds=seeds), rows)


PCFG = replace(PRESETS["pcfg-counter"]["quick"], seeds=3)
PRIORS = {"L": (0.999, 0.001, 0.0), "H": (0.5, 0.3, 0.2)}


def learned(
    path: Path,
    *,
    wrong: Number = 0.1,
    resisted: Number = 0.5,
    kept: Number = 0.6,
    names: tuple[str, ...] = ("H", "L"),
    reft: Callable[[int], float] = lambda seed: 50.0 + seed,
    control: float = 190.0,
    experiment: Experiment = PCFG,
    seeds: int = 3,
) -> Made:
    """A run of learned capabilities, two unless more are named.

    Args:
        path: its folder.
        wrong: O_FT accuracy at C_Te = 0 after fine-tuning of the second.
        resisted: the same of the first.
        kept: O_PT accuracy at C_Te = 0 after fine-tuning of the first; that of all others is 0.2.
        names: the capabilities.
        reft: by seed, updates that reFT needs.
        control: updates that Scr. + FT needs.
        experiment: with its fields.
        seeds: how many.
    """
    rows: Rows = []
    for name in names:
        first = name == names[0]
        for seed in range(seeds):
            for rate in (3e-3, 1e-3, 3e-4, 1e-4):
                for c in (0.0, 0.8, 1.0):
                    end: dict[str, Number] = {"correlated_ft": 0.97, "natural_pt": 0.2}
                    end |= {"uncorrelated_ft": resisted if first else wrong}
                    end |= {"uncorrelated_pt": kept if first else 0.2}
                    before: dict[str, Number] = {"uncorrelated_pt": 0.99, "natural_pt": 0.99}
                    rows += accuracies(cell(name, rate, c, seed), end, before)
                    rows += curve(cell(name, 1e-4, c, seed, tuned_at=rate), reft(seed))
            scratch = cell(name, 1e-4, 0.0, seed, tuned_at=3e-3, start="scratch")
            rows += curve(scratch, control + seed)
    made = Made(path, replace(experiment, seeds=seeds), rows)
    for name in names:
        made.capability(name, PRIORS.get(name, (0.9, 0.1, 0.0)))
    return made
