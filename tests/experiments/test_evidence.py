"""The same run has the same evidence, whatever order the rows of its tables come in."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.report import fakes
from veneer.experiments.evidence import _attention_kept, verdict_table
from veneer.experiments.named import THIRD
from veneer.experiments.returns import _shown
from veneer.experiments.store import Run


def test_heads_that_look_alike_are_told_apart_by_their_place() -> None:
    """Two heads share the first place before fine-tuning and differ after it: one of them is meant."""
    columns = {"kind": "natural", "on": "pt", "asked": None, "capability": "compiled", "task": "t"}
    shares = [("before", "capability", 0, 0.5), ("before", "capability", 1, 0.5)]
    shares += [("after", "fine-tune", 0, 0.1), ("after", "fine-tune", 1, 0.4)]
    table = pl.DataFrame(
        [
            {**columns, "cell": cell, "stage": stage, "block": 0, "head": head, "share": share}
            for cell, stage, head, share in shares
        ],
        schema_overrides={"asked": pl.String},
    )
    setting = {"capability": "compiled", "task": "t"}
    found = {
        _attention_kept(table.sample(fraction=1, shuffle=True, seed=seed), setting, ["after"]).value  # pyright: ignore
        for seed in range(20)
    }
    assert len(found) == 1


def test_verdicts_do_not_depend_on_the_order_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.open(tmp_path / "run", "quick", fakes.EXPERIMENT)
    cells = fakes.cells_of(fakes.EXPERIMENT)
    fakes.write_surroundings(run, cells)
    for cell in cells:
        fakes.store(run, cell)
    fakes.analysed(run, cells)
    metrics, first = run.metrics(), verdict_table(run)
    for seed in range(3):
        shuffled = metrics.sample(fraction=1, shuffle=True, seed=seed)
        monkeypatch.setattr(Run, "metrics", lambda *_, table=shuffled: table)
        again = verdict_table(run)
        assert_frame_equal(first, again, check_row_order=False)


def test_a_known_wrapper_is_shown_where_it_comes_back_ahead_and_does_not_diverge() -> None:
    """One ahead of its third operand, one behind it, and one that came back and diverged then."""
    rows = []
    for seed, (own, third, status) in enumerate([(0.9, 0.3, "done"), (0.9, 0.9, "done"), (0.9, 0.3, "x")]):
        for stage, last in (("reft", own), (THIRD, third)):
            same = {"start": "wrapped: a", "stage": stage, "arm": stage, "seed": seed}
            ended = status if stage == "reft" else "done"
            rows += [
                {**same, "step": s, "value": v, "status": ended}
                for s, v in ((0, 0.3), (10, last), (20, last))
            ]
    known = pl.DataFrame(rows)
    assert _shown(known, 0.3) == (1, 3)
    assert _shown(known.filter(pl.col("stage") == "reft"), 0.3) == (2, 3)
    assert _shown(known.clear(), 0.3) is None
