"""A folder of ``veneer run layers`` whose measurements were thought out, for claims, page and figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from veneer.experiments.layers.settings import Layers, LayerTrial
from veneer.experiments.layers.store import LayersRun

LAYERS = 8
Value = Callable[[str, str, int, int], float]
"""Similarity of a pair, on a task, with a seed, at a layer."""


def place(task: str, run: LayersRun) -> float:
    """A number from 0 to 1 for each task, in order."""
    return run.lessons.tasks.index(task) / (len(run.lessons.tasks) - 1)


def as_the_paper(run: LayersRun) -> Value:
    """Similarities as Zhao et al. show them, squeezed into eight layers."""

    def value(pair: str, task: str, seed: int, layer: int) -> float:
        own, wobble = place(task, run), 0.002 * seed
        held_out = task in run.settings.held_out
        depth = (layer - 1) / (LAYERS - 1)
        if pair in ("base", "base and multi-task"):
            return 0.99 - depth * (0.2 + 0.5 * own) + wobble
        if pair == "ceiling":
            return 0.98 + wobble
        if pair in ("floor", "other task"):
            return 0.99 - 0.8 * depth + wobble
        if layer <= 2:
            return 0.95 - 0.15 * own + wobble
        if held_out:
            return 0.95 - 0.3 * own - 0.1 * depth + wobble
        return 0.96 - 0.02 * own + wobble

    return value


def write_run(
    path: Path,
    value: Callable[[LayersRun], Value] = as_the_paper,
    right: Callable[[str, str], float] = lambda model, task: 0.0 if model == "base" else 0.9,
    **changed: Any,
) -> LayersRun:
    """A finished run in a folder.

    Args:
        path: of the folder.
        value: gives its similarities.
        right: share of right answers of a kind of model on a task.
        changed: settings.
    """
    settings = Layers(**{"known": 0, "mapped": 8, "picture": "pca", **changed})
    run = LayersRun.open(path, settings)
    run.record_inputs({"models": {"base": {"f": "0"}}, "data": {}, "environment": ENVIRONMENT})
    similar = value(run)
    for trial in run.trials():
        run.finish(trial, _result(run, trial, similar, right))
    return run


ENVIRONMENT = {"platform": "p", "device": "cpu", "python": "3", "versions": {"torch": "2"}}


def _result(
    run: LayersRun, trial: LayerTrial, similar: Value, right: Callable[[str, str], float]
) -> dict[str, Any]:
    if trial.kind in ("base", "multi-task", "specialist"):
        tasks = (trial.task,) if trial.kind == "specialist" else run.lessons.tasks
        answers = {task: {"right": right(trial.kind, task), "guess": 0.1, "questions": 50} for task in tasks}
        return {"answers": answers, "diverged_at": None, "updates": 9}
    if trial.kind == "map":
        tasks = [task for task in run.lessons.seen for _ in range(3)]
        better = 0.02 if trial.task == "base" else 0.1
        silhouettes = [better * layer + 0.001 * trial.seed for layer in range(1, LAYERS + 1)]
        points = [[[float(i), float(layer * i % 7)] for i in range(len(tasks))] for layer in range(LAYERS)]
        return {
            "silhouettes": silhouettes,
            "planes": points if not trial.seed else [],
            "tasks": tasks,
            "way": "pca",
        }
    pairs = ["base", "multi-task", "ceiling", "floor", "other task", "base and multi-task"]
    if run.settings.seeds == 1:
        pairs.remove("ceiling")
    rows = [
        {"pair": pair, "other": None, "layer": layer, "samples": 99,
         "cka": min(1.0, found + 0.01), "unbiased": found}
        for pair in pairs
        for layer in range(1, LAYERS + 1)
        for found in [similar(pair, trial.task, trial.seed, layer)]
    ]  # fmt: skip
    wide = [
        {"model": model, "layer": layer, "samples": 99, "dimensions": count, "effective_rank": count / 2}
        for model, steps in (("base", (1, 1, 1)), ("multi-task", (1, 9, 1)))
        for layer in range(1, LAYERS + 1)
        for count in [10.0 + steps[0] * min(layer, 2) + steps[1] * max(0, min(layer - 2, 1)) + trial.seed]
    ]
    return {"pairs": rows, "dimensions": wide}
