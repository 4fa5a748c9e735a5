"""The table and the sentences say what the numbers of a run say (of a run that no training made)."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from veneer.experiments import cells
from veneer.experiments.compare import compare
from veneer.experiments.curves import courses, revival_sentences
from veneer.experiments.named import PRESETS, CounterExperiment
from veneer.experiments.paper import paper_rate, paper_table
from veneer.experiments.store import Run, metrics_table, write_json
from veneer.experiments.summary import (
    capability_names,
    fine_tuning_grid,
    revivals,
    summary_table,
)
from veneer.finetune.cell import Cell
from veneer.finetune.fleet import EVALUATED
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.report.methods import certainty
from veneer.tasks.counter import Counter

EXPERIMENT = CounterExperiment(
    learning_rates=(0.1, 0.001),
    c_tr=(0.0, 1.0),
    reft_rates=(0.001,),
    reft_iterations=20,
    controls=False,
    third_operand=False,
)
TASK = Counter(length=4)
STEPS = (0, 10, 20)
GUESSING = 0.3  # O_PT, natural text
MODEL = Transformer(TransformerConfig(3, 3, 5, 4, 1, 1, 2, 3))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    majority = {"natural": {"pt": GUESSING, "ft": 0.2}, "uncorrelated": {"pt": 0.4, "ft": 0.5}}
    texts = {k: {"majority": v} for k, v in majority.items()}
    write_json(run.path / "baselines.json", {"task": {"samples": 50, "texts": texts}})
    return run


def planned(experiment: CounterExperiment = EXPERIMENT) -> list[Cell]:
    """The experiment's cells, fine-tunings and reFTs, as a capability of weights zero would start them."""
    chains, made = cells._chains(experiment), []
    for seed in range(experiment.seeds):
        for _, (fine_tune, *reft) in chains:
            origin = cells.Origin("zero", "compiled", 0.0, seed)
            first = Cell(origin, TASK, fine_tune, cells.Evaluation(5, STEPS), seed)
            made += [first, *(replace(first, start=first, stage=stage) for stage in reft)]
    return made


def store(
    run: Run, cell: Cell, natural: tuple[float, float, float], diverged: int = -1, shortcut: float = 0.987
) -> None:
    """A cell with these O_PT accuracies on natural text, and others that no test may take for them."""
    accuracy = torch.full((3, 3, 2), 0.123, dtype=torch.float64)
    accuracy[:, EVALUATED.index("natural"), 0] = torch.tensor(natural, dtype=torch.float64)
    accuracy[2, EVALUATED.index("correlated")] = torch.tensor([0.011, shortcut], dtype=torch.float64)
    accuracy[2, EVALUATED.index("uncorrelated")] = torch.tensor([0.222, 0.333], dtype=torch.float64)
    table = metrics_table(STEPS, accuracy, torch.zeros(3, 3, 2), torch.zeros(3), EVALUATED)
    run.write_cell(cell, MODEL, table, {"mean": torch.zeros(1)}, diverged)


def of(made: list[Cell], rate: float, c_tr: float) -> list[Cell]:
    """The fine-tuning with this rate and C_Tr, then its reFTs."""

    def first(cell: Cell) -> Cell:
        return cell.start if isinstance(cell.start, Cell) else cell

    return [
        cell
        for cell in made
        if first(cell).stage.recipe.learning_rate == rate
        and first(cell).stage.mixture.components[0].weight == c_tr
    ]


def store_all(run: Run, reft: dict[tuple[float, float], tuple[float, float, float]]) -> None:
    """All cells; each setting's reFT takes O_PT along these accuracies."""
    for (rate, c_tr), curve in reft.items():
        first, second = of(planned(), rate, c_tr)
        store(run, first, (1.0, 0.5, curve[0]))
        store(run, second, curve)


def test_the_sentences_tell_what_came_back_what_did_not_and_what_never_left(run: Run) -> None:
    curves = {
        (0.1, 0.0): (0.10, 0.20, 0.31),
        (0.1, 1.0): (0.10, 0.92, 0.97),
        (0.001, 0.0): (0.95, 0.97, 0.99),
        (0.001, 1.0): (0.10, 0.60, 0.70),
    }
    store_all(run, curves)
    gone, wrapped, left, undecided = revival_sentences(run)
    assert gone.startswith("Fine-tuned at 0.1 with C_Tr = 0: O_PT did not come back")
    for word in ("from 10% to 31%", "guessing gives 30%"):
        assert word in gone
    assert wrapped.startswith("Fine-tuned at 0.1 with C_Tr = 1: O_PT came back")
    for word in ("from 10% to 97%", "reFT at 0.001", "held 90 % from update"):
        assert word in wrapped
    assert left == "Fine-tuned at 0.001 with C_Tr = 0: O_PT never left (95% after fine-tuning)."
    assert undecided.startswith("Fine-tuned at 0.001 with C_Tr = 1: O_PT came part of the way")
    assert "from 10% to 70%" in undecided


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (0.899, 0.9, "came back"),
        (0.9, 0.9, "never left"),
        (0.1, 0.44, "did not come back"),  # within 15 points of guessing
        (0.1, 0.46, "came part of the way"),
        (0.6, 0.74, "did not come back"),  # within 15 points of where it started
        (0.6, 0.76, "came part of the way"),
        (0.6, 0.2, "did not come back"),
    ],
)
def test_where_one_verdict_ends_and_the_next_begins(
    run: Run, before: float, after: float, verdict: str
) -> None:
    store_all(run, {(0.1, 0.0): (before, before, after)})
    assert verdict in revival_sentences(run)[0]


def test_a_setting_without_its_cells_has_no_verdict(run: Run) -> None:
    store_all(run, {(0.1, 0.0): (0.1, 0.1, 0.1)})
    assert [("not finished" in sentence) for sentence in revival_sentences(run)] == [False, True, True, True]


def test_a_run_without_reft_says_nothing_about_revival(run: Run) -> None:
    store_all(run, {(0.1, 0.0): (1.0, 0.1, 0.1)})
    write_json(
        run.path / "experiment.json",
        {**run.experiment, "fields": {**run.experiment["fields"], "reft_rates": []}},
    )
    assert revival_sentences(Run.read(run.path)) == []


def test_the_table_holds_ours_the_papers_and_the_reft(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veneer.experiments.paper._preset", lambda described: "quick")  # whatever its size
    store_all(run, {(0.1, 0.0): (0.10, 0.20, 0.31), (0.1, 1.0): (0.10, 0.92, 0.97)})
    table = summary_table(run)
    columns = [
        "rate",
        "C_Tr",
        "C_Te=1 O_PT",
        "C_Te=1 O_FT",
        "C_Te=0 O_PT",
        "C_Te=0 O_FT",
        "O_PT after reFT 0.001",
    ]
    assert table.columns == columns
    assert table.rows[0] == ["before", "", *["12.3"] * 4, ""]
    assert [row[:2] for row in table.rows[1:]] == [["0.1", "0"], ["0.1", "1"]]
    # Table 3 of the paper, Counter, 10^-1: C_Tr 0 and 1, with C_Te 1 and 0.
    assert table.rows[1][2:] == ["1.1 (0)", "98.7 (100)", "22.2 (0)", "33.3 (100)", "31.0"]
    assert table.rows[2][2:] == ["1.1 (0)", "98.7 (100)", "22.2 (36)", "33.3 (1)", "97.0"]
    for word in ("the paper's Table 3", "O_PT 30% on natural text", "O_PT 40% and O_FT 50% at C_Te=0"):
        assert word in table.caption


@pytest.mark.parametrize(
    "other", [{"method": "ascent"}, {"letters": "abcdef"}, {"iterations": 300}, {"q": 2}, {"length": 4}]
)
def test_the_papers_numbers_stand_beside_its_own_task_method_and_size_only(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    run = Run.open(tmp_path / "run", "quick", replace(EXPERIMENT, **other))
    majority = {kind: {"majority": {"pt": 0.4, "ft": 0.5}} for kind in ("natural", "uncorrelated")}
    write_json(run.path / "baselines.json", {"task": {"texts": majority}})
    store_all(run, {(0.1, 0.0): (0.10, 0.20, 0.31), (0.1, 1.0): (0.10, 0.92, 0.97)})
    table = summary_table(run)
    assert "Table 3" not in table.caption
    assert not any("(" in cell for row in table.rows for cell in row)


def test_a_capability_that_edited_texts_are_strange_to_is_named() -> None:
    fields = {"seeds": 1, "evaluation_samples": 100, "reft_rates": []}
    places = [("natural", "pt"), ("correlated", "pt"), ("uncorrelated", "pt")]
    weak, strong, never = ((1.0, 0.57, 0.39), (1.0, 0.95, 0.9), (0.7, 0.3, 0.3))
    start = {
        name: dict(zip(places, own, strict=True)) for name, own in (("M", weak), ("H", strong), ("L", never))
    }
    (said,) = [line for line in certainty({"fields": fields}, start) if "Before fine-tuning" in line]
    assert said.startswith("Before fine-tuning M is right about O_PT on 100% of natural texts")
    assert "57% of those with C_Te = 1 and 39% with C_Te = 0" in said


def test_rates_that_the_paper_lacks_are_held_against_no_table(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", replace(EXPERIMENT, learning_rates=(0.3,)))
    majority = {kind: {"majority": {"pt": 0.4, "ft": 0.5}} for kind in ("natural", "uncorrelated")}
    write_json(run.path / "baselines.json", {"task": {"texts": majority}})
    store(run, planned(replace(EXPERIMENT, learning_rates=(0.3,)))[0], (1.0, 0.1, 0.1))
    table = summary_table(run)
    assert table.rows[1][:3] == ["0.3", "0", "1.1"] and "Table" not in table.caption


def test_a_diverged_cell_is_marked_in_the_table_and_has_no_other_verdict(run: Run) -> None:
    made = planned()
    store(run, of(made, 0.1, 0.0)[0], (1.0, 0.0, 0.0), diverged=7)
    store_all(run, {(0.1, 1.0): (0.1, 0.1, 0.1)})
    table = summary_table(run)
    before, broken, whole = table.rows
    assert [cell.split()[0][-1] == "*" for cell in broken[2:6]] == [True] * 4
    assert broken[6] == "–"
    assert not any("*" in cell for cell in (*before, *whole))
    assert "diverged at step 7" in table.caption
    sentence = revival_sentences(run)[0]
    assert "diverged at step 7" in sentence
    assert not any(word in sentence for word in ("wrapped", "came", "come back", "never left"))


def test_a_diverged_reft_is_marked(run: Run) -> None:
    first, second = of(planned(), 0.1, 0.0)
    store(run, first, (1.0, 0.5, 0.1))
    store(run, second, (0.1, 0.1, 0.1), diverged=3)
    assert summary_table(run).rows[1][6] == "–*"
    assert "diverged at step 3" in summary_table(run).caption
    (course, *_) = courses(run)
    assert (course.kind, course.after) == ("came part of the way", None), (
        "a reFT that broke off revives or fails nothing"
    )
    assert "reFT at 0.001, seed 0, diverged at step 3" in course.sentence


@pytest.fixture
def seeds(tmp_path: Path) -> Run:
    """Three seeds of one setting; seed 2 diverged while fine-tuning, seed 1 in its reFT."""
    three = replace(EXPERIMENT, seeds=3, learning_rates=(0.1,), c_tr=(0.0,))
    run, made = Run.open(tmp_path / "three", "quick", three), planned(three)
    majority = {"pt": GUESSING, "ft": 0.2}
    texts = {kind: {"majority": majority} for kind in EVALUATED}
    write_json(run.path / "baselines.json", {"task": {"samples": 50, "texts": texts}})
    for seed, end in enumerate((0.1, 0.2)):
        store(run, made[2 * seed], (1.0, 0.5, end))
    store(run, made[1], (0.1, 0.9, 0.98))
    store(run, made[3], (0.2, 0.0, 0.0), diverged=12)
    store(run, made[4], (1.0, 0.0, 0.0), diverged=7, shortcut=0.0)
    return run


def test_means_leave_out_the_seeds_that_diverged_and_count_them(seeds: Run) -> None:
    grid = fine_tuning_grid(seeds).filter(c_te=1, operand="ft").row(0, named=True)
    assert (grid["value"], grid["seeds"], grid["diverged"]) == (pytest.approx(0.987), 2, 1)
    assert grid["status"] == "1 of 3 diverged at step 7"
    back = revivals(seeds).row(0, named=True)
    assert (back["before"], back["after"]) == (pytest.approx(0.1), pytest.approx(0.98))
    assert (back["seeds"], back["diverged"]) == (1, 1)
    assert 0 < back["updates_to_90"] < 10.01


def test_the_table_the_verdict_and_a_comparison_hold_the_same_means_with_a_mark(
    seeds: Run, tmp_path: Path
) -> None:
    table = summary_table(seeds)
    assert [cell.split()[0] for cell in table.rows[1][2:]] == ["1.1*", "98.7*", "22.2*", "33.3*", "98.0*"]
    assert "2 cells: diverged at step 12, diverged at step 7" in table.caption
    (course,) = courses(seeds)
    assert (course.kind, course.seeds, course.agreeing) == ("came back", 1, 1)
    assert (course.before, course.after) == (pytest.approx(0.1), pytest.approx(0.98))
    for broken in ("fine-tuning at 0.1, seed 2, diverged at step 7", "seed 1, diverged at step 12"):
        assert broken in course.sentence
    other = Run(Path(shutil.copytree(seeds.path, tmp_path / "other")))
    beside = compare(seeds, other)
    first = beside.fine_tuning.filter(texts="correlated", operand="ft").row(0, named=True)
    assert (first["first"], first["diverged_first"]) == (pytest.approx(0.987), 1)
    back = beside.revival.row(0, named=True)
    assert (back["before_first"], back["first"]) == (pytest.approx(0.1), pytest.approx(0.98))
    assert (back["diverged_first"], back["diverged_second"]) == (1, 1)


def test_values_are_means_over_seeds(tmp_path: Path) -> None:
    two = replace(EXPERIMENT, seeds=2, learning_rates=(0.1,), c_tr=(0.0,))
    run = Run.open(tmp_path / "two", "quick", two)
    majority = {"pt": GUESSING, "ft": 0.2}
    write_json(
        run.path / "baselines.json", {"task": {"texts": {k: {"majority": majority} for k in EVALUATED}}}
    )
    for seed, (first, second) in enumerate(zip(*[iter(planned(two))] * 2, strict=True)):
        assert first.seed == second.seed == seed
        store(run, first, (1.0, 0.5, 0.1))
        store(run, second, (0.1, (0.95, 0.75)[seed], (0.99, 0.95)[seed]))
    assert fine_tuning_grid(run)["seeds"].unique().to_list() == [2]
    row = revivals(run).row(0, named=True)
    assert row["seeds"] == 2
    assert row["before"] == pytest.approx(0.1)
    assert row["after"] == pytest.approx(0.97)
    assert 10 < row["updates_to_90"] < 20  # the mean is 85 % at update 10
    (sentence,) = revival_sentences(run)
    assert "came back" in sentence


def test_a_pretrained_model_is_called_as_its_cells_are_whichever_of_its_files_is_given() -> None:
    files = ["M", "own/M-seed-0-6000", "own/H-seed-0-5.json", "own/H-seed-0-5.safetensors"]
    assert capability_names({"pretrained": files}) == ["M", "M-seed-0-6000", "H-seed-0-5"]
    assert capability_names({"pretrained": ["a/N_", "a/M-seed-{seed}-60.json", "{seed}"]}) == [
        "N_",
        "M-60",
        "pretrained",
    ]
    assert capability_names({}) == ["compiled"]


def test_the_best_reft_decides(tmp_path: Path) -> None:
    several = replace(EXPERIMENT, learning_rates=(0.1,), c_tr=(0.0,), reft_rates=(0.01, 0.001))
    run = Run.open(tmp_path / "several", "quick", several)
    majority = {"pt": GUESSING, "ft": 0.2}
    write_json(
        run.path / "baselines.json", {"task": {"texts": {k: {"majority": majority} for k in EVALUATED}}}
    )
    first, slow, slower = planned(several)
    store(run, first, (1.0, 0.5, 0.1))
    store(run, slow, (0.1, 0.2, 0.2))
    store(run, slower, (0.1, 0.9, 0.93))
    (sentence,) = revival_sentences(run)
    assert "came back" in sentence
    assert "reFT at 0.001" in sentence
    assert summary_table(run).rows[1][6:] == ["20.0", "93.0"]


def test_learned_rates_are_held_against_the_papers_that_move_a_weight_as_far() -> None:
    """Quick fine-tuning has 300 updates, the paper's 10,000: 1e-4 there is no η_L here."""
    quick, paper = (asdict(PRESETS["pcfg-counter"][name]) for name in ("quick", "paper"))
    assert {rate: paper_rate(quick, rate) for rate in quick["learning_rates"]} == pytest.approx(
        {3e-3: 1e-4, 1e-3: 1e-5, 3e-4: 1e-5, 1e-4: 1e-6}
    )
    assert [paper_rate(paper, rate) for rate in (1e-4, 1e-5, 1e-6)] == pytest.approx([1e-4, 1e-5, 1e-6])
    assert paper_rate(paper, 1e-3) is None


def test_the_papers_table_covers_its_sweep() -> None:
    for task in ("counter", "max-identifier"):
        table = paper_table(task)
        assert table["c_tr"].unique().sort().to_list() == [0, 0.2, 0.5, 0.6, 0.8, 0.9, 1]
        assert table["learning_rate"].unique().sort().to_list() == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])
        assert len(table) == 7 * 4 * 2
        assert table.select("acc_operand_pt", "acc_operand_ft").max().row(0) <= (1.0, 1.0)
