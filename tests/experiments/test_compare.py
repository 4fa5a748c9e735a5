"""Comparing two runs says what they were made with differently, and what came out differently."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from tests.report.fakes import store_analysis
from veneer.commands import main as cli
from veneer.experiments import cells
from veneer.experiments.compare import Comparison, compare
from veneer.experiments.named import CounterExperiment, Experiment, MaxIdentifierExperiment
from veneer.experiments.store import Run, metrics_table, write_json
from veneer.finetune.cell import Cell, Origin
from veneer.finetune.fleet import EVALUATED, Evaluation
from veneer.models.config import TransformerConfig
from veneer.models.files import read_json
from veneer.models.transformer import Transformer
from veneer.tasks.counter import Counter
from veneer.tasks.errors import InputError

EXPERIMENT = CounterExperiment(
    length=4,
    learning_rates=(0.1, 0.001),
    c_tr=(0.0, 1.0),
    reft_rates=(0.001,),
    iterations=20,
    reft_iterations=20,
    controls=False,
    third_operand=False,
    seeds=2,
)
STEPS = (0, 10, 20)
MODEL = Transformer(TransformerConfig(3, 3, 5, 4, 1, 1, 2, 3))


def made(path: Path, experiment: Experiment = EXPERIMENT, shift: tuple[float, float] = (0.0, 0.0)) -> Run:
    """A run that no training made.

    After fine-tuning, accuracies are 0.5 and a shift by seed; reFT takes O_PT to 0.95 after 0.001, and
    to 0.4 with the shift after 0.1.
    """
    run, task = Run.open(path, "quick", experiment), Counter(length=4)
    run.write_environment(torch.device("cpu"))
    planned = []
    for seed in range(experiment.seeds):
        for _, (tune, *reft) in cells._chains(experiment):
            first = Cell(Origin("zero", "compiled", 0.0, seed), task, tune, Evaluation(5, STEPS), seed)
            planned += [first, *(replace(first, start=first, stage=stage) for stage in reft)]
    run.plan(planned, 4)
    majority = {"majority": {"pt": 0.3, "ft": 0.3}}
    texts = dict.fromkeys(EVALUATED, majority)
    write_json(run.path / "baselines.json", {planned[0].task_id: {"samples": 5, "texts": texts}})
    for cell in planned:
        accuracy = torch.full((3, 3, 2), 0.5 + shift[cell.seed], dtype=torch.float64)
        if isinstance(cell.start, Cell):
            slow = cell.start.stage.recipe.learning_rate == 0.001
            last = 0.95 if slow else 0.4 + shift[cell.seed]
            accuracy[:, EVALUATED.index("natural"), 0] = torch.tensor([0.3, last, last])
        table = metrics_table(STEPS, accuracy, torch.zeros(3, 3, 2), torch.zeros(3), EVALUATED)
        run.write_cell(cell, MODEL, table, {}, -1)
    return run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The second has another batch and is better by 10 points in seed 0 and by 12 in seed 1."""
    folder = tmp_path_factory.mktemp("runs")
    return made(folder / "one"), made(folder / "other", replace(EXPERIMENT, batch=32), (0.10, 0.12))


@pytest.fixture(scope="module")
def found(pair: tuple[Run, Run]) -> Comparison:
    return compare(*pair)


def test_only_what_differs_is_a_change(found: Comparison) -> None:
    assert [(c.section, c.name, c.first, c.second) for c in found.changes] == [
        ("experiment", "batch", 96, 32)
    ]
    assert found.alike > 30
    assert not found.notes


def test_versions_commit_and_device_are_compared(pair: tuple[Run, Run], tmp_path: Path) -> None:
    shutil.copytree(pair[0].path, tmp_path / "later")
    file = tmp_path / "later" / "environment.json"
    environment = read_json(file)
    environment |= {"commit": "f00", "device": "a GPU"}
    environment["versions"]["torch"] = "9.9"
    write_json(file, environment)
    changes = {c.name: c.second for c in compare(pair[0], Run(tmp_path / "later")).changes}
    assert changes == {"commit": "f00", "device": "a GPU", "torch (version)": "9.9"}


def test_differences_are_paired_by_seed_with_students_interval(found: Comparison) -> None:
    """Mean of 10 and 12 points; t(0.975, 1) = 12.706, standard error 1 point."""
    assert len(found.fine_tuning) == 2 * 2 * 2 * 2
    for row in found.fine_tuning.iter_rows(named=True):
        assert row["first"] == pytest.approx(0.5) and row["second"] == pytest.approx(0.61)
        assert row["difference"] == pytest.approx(0.11)
        assert row["low"] == pytest.approx(0.11 - 0.12706, abs=1e-5)
        assert row["high"] == pytest.approx(0.11 + 0.12706, abs=1e-5)
        assert row["seeds"] == 2


def test_intervals_end_where_accuracies_do(pair: tuple[Run, Run], tmp_path: Path) -> None:
    wild = made(tmp_path / "wild", EXPERIMENT, (-0.4, 0.4))
    table = compare(pair[0], wild).fine_tuning
    assert table["low"].to_list() == [-1.0] * len(table)
    assert table["high"].to_list() == [1.0] * len(table)


def test_revival_is_compared_at_its_end_and_by_its_updates(found: Comparison) -> None:
    fast = found.revival.filter(pl.col("fine_tuning_rate") == 0.001).row(0, named=True)
    slow = found.revival.filter(pl.col("fine_tuning_rate") == 0.1).row(0, named=True)
    assert fast["difference"] == pytest.approx(0) and fast["second"] == pytest.approx(0.95)
    assert fast["ratio"] == pytest.approx(1) and 0 < fast["updates_first"] <= 10
    assert slow["difference"] == pytest.approx(0.11)
    assert slow["updates_first"] is None and slow["ratio"] is None


def test_verdicts_that_changed_are_found(pair: tuple[Run, Run], tmp_path: Path) -> None:
    better = made(tmp_path / "better", EXPERIMENT, (0.6, 0.6))
    verdicts = compare(pair[0], better).verdicts
    changed = verdicts.filter("changed").select("fine_tuning_rate", "first", "second").unique().rows()
    assert changed == [(0.1, "did not come back", "came back")]
    assert verdicts.filter(~pl.col("changed"))["first"].unique().to_list() == ["came back"]


def test_verdicts_of_the_analyses_count_where_both_runs_have_them(
    pair: tuple[Run, Run], tmp_path: Path
) -> None:
    runs = []
    for name, kind in (("a", "wrapped"), ("b", "rewritten")):
        shutil.copytree(pair[0].path, tmp_path / name)
        (tmp_path / name / "analysis").mkdir()
        row = {"capability": "compiled", "fine_tuning_rate": 0.1, "c_tr": 1.0, "start": "capability"}
        store_analysis(tmp_path / name, "verdicts", [{**row, "kind": kind}])
        runs.append(Run(tmp_path / name))
    found = compare(runs[0], runs[1])
    assert found.verdicts.select("first", "second", "changed").rows() == [("wrapped", "rewritten", True)]
    assert "all evidence" in found.judged_by


def test_settings_of_one_run_only_are_named_and_the_others_compared(
    pair: tuple[Run, Run], tmp_path: Path
) -> None:
    other = made(tmp_path / "other", replace(EXPERIMENT, learning_rates=(0.1, 0.01)))
    found = compare(pair[0], other)
    assert any("Only one has rate 0.001 with C_Tr = 0; rate 0.001" in note for note in found.notes)
    assert any("Only other has rate 0.01" in note for note in found.notes)
    assert found.fine_tuning["fine_tuning_rate"].unique().to_list() == [0.1]


def test_a_point_of_a_sweep_is_held_against_a_run_with_the_same_value(
    pair: tuple[Run, Run], tmp_path: Path
) -> None:
    """The sweep's cells stand for batch 32 and 96; the plain run has batch 96."""
    shutil.copytree(pair[0].path, tmp_path / "sweep")
    write_json(
        tmp_path / "sweep" / "experiment.json",
        {**read_json(tmp_path / "sweep" / "experiment.json"), "axes": {"batch": [32, 96]}},
    )
    file = tmp_path / "sweep" / "cells.parquet"
    table = pl.read_parquet(file)
    halves = [table.with_columns(batch=pl.lit(batch)) for batch in (32, 96)]
    pl.concat(halves).write_parquet(file)
    found = compare(Run(tmp_path / "sweep"), pair[0])
    assert found.axes == ["batch"]
    assert found.fine_tuning["batch"].unique().to_list() == ["96"]
    assert any("Only sweep has" in note and "batch 32" in note for note in found.notes)


def test_runs_of_different_experiments_are_not_compared_in_accuracy(
    pair: tuple[Run, Run], tmp_path: Path
) -> None:
    own = replace(MaxIdentifierExperiment(), learning_rates=(0.1,), c_tr=(1.0,), reft_rates=(0.001,), seeds=1)
    other = made(tmp_path / "other", replace(own, controls=False, iterations=20, reft_iterations=20))
    found = compare(pair[0], other)
    assert len(found.notes) == 1 and "counter and other of max-identifier" in found.notes[0]
    assert found.fine_tuning.is_empty() and found.revival.is_empty()
    assert found.verdicts.select("fine_tuning_rate", "c_tr").rows() == [(0.1, 1.0)]
    assert {"experiment", "rank_pt", "operand_pt"} <= {change.name for change in found.changes}


def test_a_run_that_has_not_begun_is_compared_in_its_settings(pair: tuple[Run, Run], tmp_path: Path) -> None:
    found = compare(pair[0], Run.open(tmp_path / "new", "paper", replace(EXPERIMENT, batch=8)))
    assert {"batch", "preset"} <= {change.name for change in found.changes}
    assert any("new has no finished cell" in note for note in found.notes)
    assert found.fine_tuning.is_empty()


def test_the_command_prints_tables_of_80_columns_and_writes_json(
    pair: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["compare", *(str(run.path) for run in pair), "--json", str(tmp_path / "c.json")])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    for words in ("batch", "50.0 → 61.0", "+11.0 [-2, +24]", "C_Te=0 O_FT", "2 of 4 verdicts changed"):
        assert words in said, words
    written = json.loads((tmp_path / "c.json").read_text())
    assert written["changes"] == [{"section": "experiment", "name": "batch", "first": 96, "second": 32}]
    assert written["fine_tuning"][0]["difference"] == pytest.approx(0.11)


@pytest.mark.parametrize("damage", ["foreign", "not JSON", "metrics", "same", "nothing there"])
def test_what_cannot_be_read_is_refused_in_one_line(
    pair: tuple[Run, Run], tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(pair[1].path, folder)
    if damage == "foreign":
        write_json(folder / "experiment.json", {"name": "something else"})
    elif damage == "not JSON":
        (folder / "experiment.json").write_text("{")
    elif damage == "metrics":
        next(folder.glob("cells/*/metrics.parquet")).write_bytes(b"nothing")
    else:
        folder = pair[0].path if damage == "same" else tmp_path
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", str(pair[0].path), str(folder)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("veneer: ") and said.count("\n") == 1


def test_comparing_is_refused_by_the_library_too(pair: tuple[Run, Run]) -> None:
    with pytest.raises(InputError, match="two different runs"):
        compare(pair[0], pair[0])


def test_equal_runs_are_told_in_one_line(
    pair: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pair[0].path, tmp_path / "copy")
    cli.main(["compare", str(pair[0].path), str(tmp_path / "copy")])
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith("every accuracy, every time and every verdict.") and "They are equal" in said
