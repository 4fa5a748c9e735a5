"""Claims Z1 to Z10: made-up layers that are as the paper shows replicate it, and each lie is found out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.claims.made_up import EITHER, NO, YES
from tests.claims.made_up_layers import Value, as_the_paper, place, write_run
from veneer.claims.layers import LayersView
from veneer.claims.list import claims, evaluate
from veneer.experiments.layers.store import LayersRun

Lie = Callable[[str, str, int, int, float, float], float]


def answer(number: str, run: LayersRun) -> str:
    return evaluate(claims([number])[0], [LayersView(run)]).outcome


def lying(lie: Lie) -> Callable[[LayersRun], Value]:
    """The paper's numbers, changed by a function of all that is known of each."""

    def of(run: LayersRun) -> Value:
        honest = as_the_paper(run)
        return lambda pair, task, seed, layer: lie(
            pair, task, seed, layer, honest(pair, task, seed, layer), place(task, run)
        )

    return of


@pytest.mark.parametrize("number", ["Z1", "Z2", "Z3", "Z4", "Z5", "Z6", "Z7", "Z8", "Z10"])
def test_layers_as_the_paper_shows_them_replicate_it(number: str, tmp_path: Path) -> None:
    assert answer(number, write_run(tmp_path)) == YES


@pytest.mark.parametrize(
    ("number", "lie"),
    [
        ("Z1", lambda pair, task, seed, layer, value, at: 0.9 + 0.001 * layer),
        ("Z2", lambda pair, task, seed, layer, value, at: value - 0.5 * (pair == "multi-task") * (layer > 4)),
        ("Z3", lambda pair, task, seed, layer, value, at: value + 0.2 * (pair == "multi-task")),
        ("Z4", lambda pair, task, seed, layer, value, at: value - 0.1 * at * layer),
        ("Z8", lambda pair, task, seed, layer, value, at: value - 0.5 * (pair == "multi-task")),
        ("Z10", lambda pair, task, seed, layer, value, at: 0.9),
    ],
)
def test_each_lie_is_found_out(number: str, lie: Lie, tmp_path: Path) -> None:
    assert answer(number, write_run(tmp_path, lying(lie))) in (NO, EITHER)


def test_a_common_start_alone_does_not_pass_for_more(tmp_path: Path) -> None:
    """All models as like each other as two seeds of one: claims Z1 to Z4 may hold, Z10 must not."""

    def common(pair: str, task: str, seed: int, layer: int, value: float, at: float) -> float:
        return 0.97 - 0.01 * layer + 0.002 * seed - (0.05 if pair == "base" else 0.0)

    run = write_run(tmp_path, lying(common))
    assert answer("Z10", run) != YES


def test_one_seed_decides_nothing_and_has_no_ceiling(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=1)
    assert answer("Z1", run) == EITHER
    finding = evaluate(claims(["Z10"])[0], [LayersView(run)])
    assert finding.outcome == "no run" and "--seeds 3" in finding.explanation


def test_tasks_that_were_not_learned_are_not_asked(tmp_path: Path) -> None:
    """All but three fail: a spread over three says nothing."""
    good = ("copy", "review", "capital")
    run = write_run(tmp_path, right=lambda model, task: 0.9 if task in good else 0.1)
    finding = evaluate(claims(["Z4"])[0], [LayersView(run)])
    assert finding.outcome == "no run" and "3 seen tasks that were learned" in finding.explanation


@pytest.mark.parametrize(("kept", "learned", "base"), [("layers", 9, 0.07), ("layers-smollm2", 7, 0.37)])
def test_kept_runs_can_be_asked(kept: str, learned: int, base: float) -> None:
    """The number of tasks that count, and the base's similarity at the last layer, as the docs tell them."""
    view = LayersView(LayersRun.read(Path(__file__).parents[2] / "results" / kept))
    assert view.finished and len(view.tasks()) == learned
    by_task = view.numbers.by_task("base", view.tasks())
    assert float(np.median(by_task[:, -1])) == pytest.approx(base, abs=0.005)
