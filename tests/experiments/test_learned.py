"""Learned capabilities go through the same protocols; ready checkpoints do what they say."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
import torch

from tests.tiny import CPU, Quiet
from veneer.experiments.analyse import analyse
from veneer.experiments.cells import Prepared, prepare
from veneer.experiments.named import PRESETS, THIRD, PcfgCounterExperiment
from veneer.experiments.origins import CAPABILITY, SCRATCH, pretrained
from veneer.experiments.paper import comparable_table
from veneer.experiments.run import execute
from veneer.experiments.store import Run
from veneer.experiments.summary import summary_table
from veneer.finetune.cell import Cell
from veneer.finetune.fleet import evaluate_sets
from veneer.pcfg.answers import AnswerGrid
from veneer.pcfg.capability import CHECKPOINTS, LearnedCapability
from veneer.pcfg.families import SampleLayout
from veneer.pcfg.operand_task import OperandTask
from veneer.pcfg.pretraining import PRIORS, question_batch, question_name, questions
from veneer.report.page import write_report
from veneer.tasks.errors import InputError

SMALL = PcfgCounterExperiment(
    pretrained=("M", "H"),
    learning_rates=(0.3, 1e-4),  # for 3 updates: as far as the paper's 1e-4 for 10,000, and not nearly so
    c_tr=(1.0,),
    reft_rates=(1e-4,),
    iterations=3,
    reft_iterations=2,
    batch=4,
    evaluation_samples=8,
)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(SMALL)


@pytest.fixture(scope="module")
def run(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run.open(tmp_path_factory.mktemp("learned") / "run", "quick", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("veneer.experiments.maps.MAP_TEXTS", 8)
        patch.setattr("veneer.experiments.run.CAPABILITY_TEXTS", 8)
        execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    yield run


@pytest.mark.parametrize("name", ["L", "M", "H"])
def test_a_ready_checkpoint_has_the_accuracy_and_the_prior_that_it_states(name: str) -> None:
    learned = LearnedCapability.load(CHECKPOINTS / f"quick-{name}")
    assert learned.operand_prior == PRIORS[name]
    assert learned.layout == SampleLayout.quick()
    assert learned.command == f"veneer pretrain pcfg --priors {name}"
    asked = [q for q in questions(learned.layout) if question_name(learned.layout, q) in ("C a", "I a")]
    sets = [(question_batch(learned.layout, q, 500, CPU),) for q in asked]
    right, _ = evaluate_sets(learned.model, sets, learned.layout.answer_position)
    stated = [learned.accuracy[question_name(learned.layout, q)] for q in asked]
    assert right[0, :, 0].tolist() == pytest.approx(stated, abs=0.004)
    assert stated[0] >= 0.97


def test_the_medium_prior_knows_counting_and_indexing_of_a() -> None:
    accuracy = LearnedCapability.load(CHECKPOINTS / "quick-M").accuracy
    assert accuracy["C a"] >= 0.97
    assert accuracy["I a"] >= 0.97


def test_the_checkpoints_are_small() -> None:
    sizes = [file.stat().st_size for file in CHECKPOINTS.iterdir()]
    assert max(sizes) <= 2 << 20 and sum(sizes) <= 10_000_000


def test_the_ready_lengths_of_pretraining_are_of_five_seeds_each_and_the_longer_knows_more() -> None:
    for seed in range(5):
        short, long = (pretrained(f"M-{updates}-{seed}").capability for updates in (4000, 12000))
        assert (short.iterations, long.iterations, short.seed, long.seed) == (4000, 12000, seed, seed)
        assert short.operand_prior == long.operand_prior == PRIORS["M"]
        assert 0.9 <= short.accuracy["C a"] <= long.accuracy["C a"]
        assert short.accuracy["I a"] < long.accuracy["I a"]
        assert long.model.token_embedding.dtype == torch.float32, "it is kept in half of that"
    assert len({pretrained(f"M-12000-{seed}").key for seed in range(5)}) == 5


def test_a_model_in_half_precision_is_right_as_often_as_the_float32_that_it_was(tmp_path: Path) -> None:
    whole = LearnedCapability.load(CHECKPOINTS / "quick-M")
    replace(whole, model=replace(whole).model.member(0).half()).save(tmp_path / "half")
    halved = LearnedCapability.load(tmp_path / "half")
    assert 0 < (halved.model.token_embedding - whole.model.token_embedding).abs().max() < 1e-3
    asked = [q for q in questions(whole.layout) if question_name(whole.layout, q) in ("C a", "I a")]
    sets = [(question_batch(whole.layout, q, 200, CPU),) for q in asked]
    right = [evaluate_sets(c.model, sets, c.layout.answer_position)[0] for c in (whole, halved)]
    assert torch.allclose(*right, atol=0.01)


def test_every_model_is_fine_tuned_revived_and_held_against_models_from_scratch(prepared: Prepared) -> None:
    def described(cell: Cell) -> tuple[str, str, str, float]:
        return cell.origin.name, cell.origin.start, cell.stage.name, cell.stage.recipe.learning_rate

    found = [described(cell) for cell in prepared.cells]
    for name in ("M", "H"):
        own = [entry[1:] for entry in found if entry[0] == name]
        assert own.count(("capability", "fine-tune", 0.3)) == 1
        assert own.count(("capability", "reft", 1e-4)) == 2
        assert own.count((SCRATCH, "fine-tune", 0.3)) == 1
        assert own.count((SCRATCH, "reft", 1e-4)) == 2
    assert all(cell.stage.recipe.optimizer == "adamw" for cell in prepared.cells)


def test_a_model_from_scratch_shares_shape_but_no_weights_with_the_pretrained_one(prepared: Prepared) -> None:
    origin = next(cell.origin for cell in prepared.cells if cell.origin.start == SCRATCH)
    fresh = prepared.start(origin)
    assert fresh.config == prepared.start(replace(origin, start="capability")).config
    other = prepared.start(replace(origin, seed=1))
    assert not torch.equal(fresh.token_embedding, other.token_embedding)
    assert float(fresh.token_embedding.std()) == pytest.approx(0.02, rel=0.05)


def test_both_operands_are_asked_for_and_the_capability_answers(run: Run) -> None:
    table = run.metrics().filter((pl.col("measure") == "accuracy") & (pl.col("texts") == "natural"))
    first = table.filter(
        (pl.col("step") == 0) & (pl.col("stage") == "fine-tune") & (pl.col("start") == "capability")
    )
    assert set(first["capability"]) == {"M", "H"}
    assert first.filter(pl.col("operand") == "pt")["value"].min() == 1.0
    assert first.filter(pl.col("capability") == "H", pl.col("operand") == "ft")["value"].min() == 1.0


def test_the_papers_table_stands_beside_runs_of_a_presets_size_and_method_alone(run: Run) -> None:
    own = json.loads(json.dumps(asdict(PRESETS["pcfg-counter"]["quick"])))
    whole = {"name": "pcfg-counter", "fields": own}
    assert len(comparable_table(whole))
    assert comparable_table({**whole, "fields": {**own, "method": "ascent"}}).is_empty()
    assert comparable_table(run.experiment).is_empty()


OTHERS: dict[str, object] = {
    "method": "ascent",
    "iterations": 301,
    "length": 6,
    "letters": "abcdef",
    "batch": 31,
    "operand_ft": "d",
    "q": 2,
    "prior": 0.5,
}


@pytest.mark.parametrize("name", ["counter", "max-identifier", "pcfg-counter"])
def test_the_papers_table_stands_beside_its_own_task_method_and_size_alone(name: str) -> None:
    """More rates and seeds leave a run comparable; what changes task, method or size does not."""
    for preset in PRESETS[name].values():
        own = json.loads(json.dumps(asdict(preset)))
        more = {**own, "seeds": 7, "learning_rates": [0.1, 0.03]}
        assert len(comparable_table({"name": name, "fields": own})), preset
        assert len(comparable_table({"name": name, "fields": more}))
        changed = {field: value for field, value in OTHERS.items() if field in own and own[field] != value}
        assert len(changed) >= 4
        for field, value in changed.items():
            assert comparable_table({"name": name, "fields": {**own, field: value}}).is_empty(), field


@pytest.fixture
def as_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stands for one of the quick preset, beside which the paper's table is shown."""
    monkeypatch.setattr("veneer.experiments.paper._preset", lambda described: "quick")


@pytest.mark.usefixtures("as_quick")
def test_the_table_has_a_row_per_model_rate_and_share(run: Run) -> None:
    table = summary_table(run)
    assert table.columns[:3] == ["model", "rate", "C_Tr"]
    assert [tuple(row[:2]) for row in table.rows] == [
        (name, rate) for name in ("M", "H") for rate in ("before", "0.3", "0.0001")
    ]
    assert "Table 5" in table.caption and "0.3 as 0.0001" in table.caption


@pytest.mark.usefixtures("as_quick")
def test_table_5_stands_beside_the_rates_that_move_a_weight_as_far(run: Run) -> None:
    high, low = (
        next(row for row in summary_table(run).rows if row[:2] == ["M", rate]) for rate in ("0.3", "0.0001")
    )
    # Table 5, prior .9, 1e-4, C_Tr = 1, after 10 K iterations: C_Te 1 then 0, O_PT then O_FT.
    assert [cell.split("(")[1] for cell in high[3:7]] == ["2)", "100)", "16)", "9)"]
    assert not any("(" in cell for cell in low[3:7])


def test_what_a_capability_does_not_have_on_the_texts_it_is_judged_by_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a wide grid most texts have counts that plain text never has; on the natural one none do."""
    monkeypatch.setattr("veneer.experiments.maps.MAP_TEXTS", 8)
    alone = replace(SMALL, pretrained=("M",), learning_rates=(1e-4,), reft_rates=(), evaluation_samples=500)
    said: dict[str, list[str]] = {}
    for grid in get_args(AnswerGrid):
        made = prepare(replace(alone, answer_grid=grid))
        run = Run.open(tmp_path / grid, "quick", replace(alone, answer_grid=grid))
        listening = Quiet()
        execute(made, run, CPU, run.plan(made.cells, 4), listening)
        said[grid] = listening.notices
    assert not said["natural"]
    assert any("less than half of O_PT's skill on uncorrelated texts" in text for text in said["wide"])


def test_inside_analyses_read_learned_models_too(run: Run) -> None:
    analyse(run, CPU, ("revival", "verdicts"))
    verdicts = pl.read_parquet(run.path / "analysis" / "verdicts.parquet")
    assert set(verdicts["kind"]) <= {"too few seeds", "mixed evidence"}  # one seed, three updates
    assert len(verdicts) == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pretrained": ("Q",)}, "pretrained"),
        ({"pretrained": ()}, "pretrained"),
        ({"operand_ft": "z"}, "operand"),
        ({"q": 99}, "q"),
        ({"task_token": "I"}, "task_token"),
        ({"rand_ft": 1.0}, "rand_ft"),
        ({"method": "lora:0"}, "rank"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_training(change: dict[str, object], named: str) -> None:
    with pytest.raises(InputError) as refused:
        prepare(replace(SMALL, **change))  # pyright: ignore[reportArgumentType]
    assert refused.value.field == named


def test_a_task_of_another_layout_is_refused() -> None:
    other = OperandTask(SampleLayout(window=30, count_last=16, occurrence=3, token_back=16))
    model = pretrained("M")
    with pytest.raises(InputError, match="vocabulary"):
        model.encoding(other)


def put(model: str, path: Path) -> None:
    """A ready model as somebody's own checkpoint."""
    for suffix in (".json", ".safetensors"):
        path.with_name(path.name + suffix).write_bytes((CHECKPOINTS / f"quick-{model}{suffix}").read_bytes())


def test_a_path_with_seed_gives_each_seed_its_own_pretraining(tmp_path: Path) -> None:
    """One capability in every table, whose seeds differ in their weights."""
    put("M-12000-1", tmp_path / "N-seed-0-60")
    put("M-12000-2", tmp_path / "N-seed-1-60")
    own = replace(SMALL, seeds=2, pretrained=("L", str(tmp_path / "N-seed-{seed}-60")), controls=False)
    prepared = prepare(own)
    for seed, model in enumerate(("M-12000-1", "M-12000-2")):
        cells = [cell for cell in prepared.cells if cell.seed == seed and cell.origin.name == "N-60"]
        assert {cell.stage.name for cell in cells} == {"fine-tune", "reft", THIRD}
        for cell in cells:
            assert cell.origin.capability == pretrained(model).key
        (mine,) = {cell.origin for cell in cells if cell.origin.start == CAPABILITY}
        assert torch.equal(
            prepared.start(mine).token_embedding[0], pretrained(model).model.token_embedding[0]
        )
    others = {cell.origin.capability for cell in prepared.cells if cell.origin.name == "L"}
    assert others == {pretrained("L").key}
    run = Run.open(tmp_path / "run", "quick", own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("veneer.experiments.maps.MAP_TEXTS", 8)
        patch.setattr("veneer.experiments.run.CAPABILITY_TEXTS", 8)
        execute(prepared, run, CPU, run.plan(prepared.cells, 8), Quiet())
    told = [
        json.loads((tmp_path / "run/capabilities" / f"N-60-seed-{seed}/accuracy.json").read_text())["about"]
        for seed in range(2)
    ]
    assert [about["seed"] for about in told] == [1, 2], "of pretraining, as the models say"
    page = write_report(run).read_text()
    assert "Each seed starts from its own pretraining" in page and "which of them it starts from" in page
    tuned = run.metrics().filter(pl.col("stage") == "fine-tune")
    assert set(tuned.group_by("capability").agg(pl.col("seed").n_unique()).rows()) == {("L", 2), ("N-60", 2)}


def test_a_seed_without_a_pretraining_is_refused_by_the_file_that_is_missing(tmp_path: Path) -> None:
    put("M", tmp_path / "N-seed-0-60")
    with pytest.raises(InputError, match="N-seed-1-60"):
        prepare(replace(SMALL, seeds=2, pretrained=(str(tmp_path / "N-seed-{seed}-60"),)))
    assert (
        len(prepare(replace(SMALL, seeds=1, pretrained=(str(tmp_path / "N-seed-{seed}-60"),))).sources) == 1
    )


def test_seeds_of_one_word_differ_in_nothing_but_their_seed(tmp_path: Path) -> None:
    put("M", tmp_path / "N-0")
    put("H", tmp_path / "N-1")
    with pytest.raises(InputError, match="seed 1 has another operand_prior than seed 0"):
        prepare(replace(SMALL, seeds=2, pretrained=(str(tmp_path / "N-{seed}"),)))


def test_what_a_seeds_own_pretraining_lacks_is_said_of_that_seed(tmp_path: Path) -> None:
    own = replace(
        SMALL, seeds=2, pretrained=("M-4000-{seed}",), operand_pt="c", reft_rates=(), controls=False
    )
    ready, run, told = prepare(own), Run.open(tmp_path / "run", "quick", own), Quiet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("veneer.experiments.maps.MAP_TEXTS", 8)
        execute(ready, run, CPU, run.plan(ready.cells, 8), told)
    for seed in range(2):
        assert any(f"M-4000 of seed {seed} has less than half" in notice for notice in told.notices)


def test_two_models_of_one_name_are_refused_as_tables_could_not_tell_them_apart(tmp_path: Path) -> None:
    put("H", tmp_path / "M")
    with pytest.raises(InputError, match="different names"):
        prepare(replace(SMALL, pretrained=("M", str(tmp_path / "M"))))


def test_a_damaged_checkpoint_is_refused_with_its_name(tmp_path: Path) -> None:
    for suffix in ("json", "safetensors"):
        content = (CHECKPOINTS / f"quick-M.{suffix}").read_bytes()
        (tmp_path / f"mine.{suffix}").write_bytes(content if suffix == "json" else content[:-5])
    with pytest.raises(InputError, match="mine"):
        prepare(replace(SMALL, pretrained=(str(tmp_path / "mine"),)))
