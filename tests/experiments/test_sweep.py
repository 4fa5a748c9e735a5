"""A sweep is one run over a grid of experiments; what points of the grid share is trained once."""

import json
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.tiny import CPU, EXPERIMENT, Quiet
from veneer.commands.main import main
from veneer.commands.sweep import sweep_table
from veneer.experiments import cells, estimate
from veneer.experiments.cells import prepare
from veneer.experiments.named import CounterExperiment, PcfgCounterExperiment
from veneer.experiments.run import execute
from veneer.experiments.status import status, verify
from veneer.experiments.store import Run
from veneer.experiments.sweep import Sweep, prepare_sweep, read_values, split_words, sweep_of
from veneer.finetune.cell import Cell, Fleet, Origin, content_hash, describe, plan
from veneer.tasks.errors import InputError

ONE = replace(EXPERIMENT, learning_rates=(1e-2,), iterations=6, reft_iterations=5)
RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install veneer[ray])")
SMALL = (
    "--length 6 --lr 0.01 --c-tr 1.0 --reft-rates none --iterations 4 --evaluation-samples 20 --no-controls "
    "--no-constructed --no-third-operand --seeds 1"
)


def test_the_grid_is_the_product_of_its_axes() -> None:
    found = sweep_of(ONE, {"batch": ["32", "96"], "q": ["1", "2", "3"], "lr": ["0.1", "0.01"]})
    assert found.axes == {"batch": (32, 96), "q": (1, 2, 3)}
    assert {(e.batch, e.q) for e in found.experiments} == {(b, q) for b in (32, 96) for q in (1, 2, 3)}
    assert all(e.learning_rates == (0.1, 0.01) for e in found.experiments)


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"bathc": ["32"]}, "axis", "did you mean batch"),
        ({"batch": []}, "batch", "one value or more"),
        ({"batch": ["32", ""]}, "batch", "a value is missing"),
        ({"batch": ["32", "many"]}, "batch", "a whole number (type int)"),
        ({"batch": ["1.5"]}, "batch", "a whole number (type int)"),
        ({"clip": ["tight"]}, "clip", "a number (type float), or none"),
        ({"controls": ["maybe"]}, "controls", "true or false"),
        ({"c_tr": ["half"]}, "c_tr", "a number (type float)"),
        ({"batch": ["32", "32"]}, "batch", "different values"),
        ({"seeds": ["1", "2"]}, "seeds", "one value: the seeds of a run are an axis already"),
        ({"first_seed": ["0", "3"]}, "first_seed", "one value: the seeds of a run are an axis already"),
        ({"warmup": ["0.2", "3"]}, "warmup", "a share in [0, 1]"),
    ],
)
def test_an_axis_that_cannot_be_is_refused_in_one_line(
    given: dict[str, list[str]], field: str, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        sweep_of(ONE, given)
    assert refused.value.field == field
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_values_are_read_in_the_fields_own_type() -> None:
    assert read_values(ONE, "clip", ["1", "none"]) == (1.0, None)
    assert read_values(ONE, "iterations", ["1e4", 20]) == (10_000, 20)
    assert read_values(ONE, "literal", [False]) == (False,)
    assert read_values(ONE, "reft_rates", ["none"]) == ()
    assert read_values(PcfgCounterExperiment(), "pretrained", ["L", "M"]) == ("L", "M")


def test_a_command_line_is_split_into_values_and_options() -> None:
    words = ["--batch", "32,96", "--lr", "0.1", "0.01", "--no-controls", "--literal", "--clip=none"]
    words += ["--out", "there", "--dry-run"]
    values, rest = split_words(ONE, words, {"out", "dry_run"})
    assert values == {
        "batch": ["32", "96"],
        "learning_rates": ["0.1", "0.01"],
        "controls": ["false"],
        "literal": ["true"],
        "clip": ["none"],
    }
    assert rest == ["--out", "there", "--dry-run"]


def test_a_sweep_without_axes_is_the_experiment(cache: Path) -> None:
    prepared, points = prepare_sweep(Sweep(ONE))
    assert points is None
    assert [cell.id for cell in prepared.cells] == [cell.id for cell in prepare(ONE).cells]


def test_an_id_is_the_hash_of_the_content_as_canonical_json(cache: Path) -> None:
    """Stored runs are found by it: it is worked out from another encoding of the content here."""
    cells = prepare(replace(EXPERIMENT, seeds=2, controls=True)).cells
    strange = Origin("0" * 16, 'a "näme"\\', 1e-7, 3, "wrapped: outputs permuted")
    for cell in [*cells, replace(cells[0], start=strange)]:
        begins = {"cell": cell.start.id} if isinstance(cell.start, Cell) else asdict(cell.start)
        shared = [[type(part).__name__, describe(part)] for part in (cell.task, cell.stage)]
        hashes = [content_hash(part) for part in (*shared, asdict(cell.evaluation))]
        assert cell.id == content_hash([begins, *hashes, cell.seed])
    for fleet in plan(cells, 4):
        assert fleet.id == content_hash([cell.id for cell in fleet.cells])


@pytest.fixture(scope="module")
def swept(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Quiet]:
    """Two reFT lengths: the fine-tuning is the same cell at both points."""
    grid = sweep_of(ONE, {"reft_iterations": ["5", "7"]})
    prepared, points = prepare_sweep(grid)
    run = Run.open(tmp_path_factory.mktemp("sweep") / "run", "quick", grid.base, grid.axes)
    said = Quiet()
    execute(prepared, run, CPU, run.plan(prepared.cells, 4, points), said)
    return run, said


def test_shared_stages_are_trained_once(swept: tuple[Run, Quiet]) -> None:
    run, said = swept
    assert len(run.finished()) == 3
    assert said.trained == 6 + 5 + 7


def test_every_point_of_the_grid_reads_like_the_experiment_alone(
    swept: tuple[Run, Quiet], cache: Path, tmp_path: Path
) -> None:
    run, _ = swept
    alone = Run.open(tmp_path / "alone", "quick", replace(ONE, reft_iterations=7))
    ready = prepare(replace(ONE, reft_iterations=7))
    execute(ready, alone, CPU, alone.plan(ready.cells, 4), Quiet())
    point = run.metrics().filter(pl.col("reft_iterations") == 7).drop("reft_iterations")
    assert_frame_equal(point, alone.metrics(), check_exact=True)


def test_the_table_of_a_sweep_has_a_row_for_every_point_and_stage(swept: tuple[Run, Quiet]) -> None:
    table = sweep_table(swept[0])
    assert table.select("reft_iterations", "stage").sort(pl.all()).rows() == [
        (n, stage) for n in (5, 7) for stage in ("fine-tune", "reft")
    ]
    assert table["pt"].is_between(0, 1).all()


def test_the_axes_are_part_of_what_a_folder_holds(swept: tuple[Run, Quiet]) -> None:
    run, _ = swept
    assert json.loads((run.path / "experiment.json").read_text())["axes"] == {"reft_iterations": [5, 7]}
    with pytest.raises(InputError, match="axes"):
        Run.check(run.path, ONE, {"reft_iterations": (5, 9)})
    with pytest.raises(InputError, match="axes"):
        Run.check(run.path, ONE)
    Run.check(run.path, ONE, {"reft_iterations": (5, 7)})


def test_capabilities_of_different_tasks_have_folders_of_their_own(cache: Path, tmp_path: Path) -> None:
    grid = sweep_of(replace(ONE, reft_rates=(), iterations=2), {"operand_ft": ["b", "c"]})
    prepared, points = prepare_sweep(grid)
    run = Run.open(tmp_path / "run", "quick", grid.base, grid.axes)
    execute(prepared, run, CPU, run.plan(prepared.cells, 4, points), Quiet())
    assert len(list((run.path / "capabilities").glob("compiled-*-seed-0/accuracy.json"))) == 2
    assert run.metrics()["operand_ft"].unique().sort().to_list() == ["b", "c"]
    assert run.metrics()["task"].n_unique() == 2


def test_a_finished_sweep_is_whole_and_says_so(swept: tuple[Run, Quiet]) -> None:
    run, _ = swept
    found = status(run)
    assert (found.cells, found.done, found.diverged) == (3, 3, 0)
    assert found.updates == (18, 18)
    assert not found.running | found.interrupted
    assert verify(run) == []
    assert_frame_equal(pl.read_parquet(run.path / "metrics.parquet"), run._collected(run.finished()))


def test_a_fleet_that_cannot_fit_is_refused_before_it_is_tried(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(ONE)
    fleets = plan(prepared.cells, 4)
    estimate.check_memory(prepared, fleets, CPU)
    monkeypatch.setattr(estimate, "memory_of", lambda device: 1000)
    with pytest.raises(InputError, match="at least"):
        estimate.check_memory(prepared, fleets, CPU)


def test_a_grid_reads_each_capability_once_and_gives_the_cells_of_its_points(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Sweep(ONE, {"batch": (8, 16), "clip": (1.0, 2.0), "length": (6, 7)})
    alone = {cell.id for point in grid.experiments for cell in prepare(point).cells}
    read: list[int] = []
    monkeypatch.setattr(cells, "_sources", lambda asked, own=cells._sources: read.append(1) or own(asked))
    prepared, _ = prepare_sweep(grid)
    assert {cell.id for cell in prepared.cells} == alone
    assert len(read) == 2, "one for each length"


def test_of_many_kinds_of_fleets_few_are_tried_and_the_others_lie_between(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, _ = prepare_sweep(Sweep(replace(ONE, reft_rates=()), {"batch": tuple(range(8, 28))}))
    fleets, tried = plan(prepared.cells, 4), list[int]()

    def measured(_: object, fleet: Fleet, device: object) -> tuple[float, float, int]:
        tried.append(fleet.cells[0].stage.recipe.batch)
        return tried[-1] / 1000, 0.5, 10 * tried[-1]

    monkeypatch.setattr(estimate, "_measure", measured)
    kinds = estimate.calibrate(prepared, fleets, CPU)
    assert len(kinds) == 20 and len(tried) == estimate.MEASURED and {8, 27} <= set(tried)
    assert [round(1000 * kind.update) for kind in kinds] == list(range(8, 28))
    assert {kind.evaluation for kind in kinds} == {0.5}


def test_the_bound_on_memory_is_below_what_training_takes(cache: Path) -> None:
    prepared = prepare(replace(ONE, batch=4096, iterations=100))
    fleets = plan(prepared.cells, 4)
    kinds = estimate.calibrate(prepared, fleets[:1], CPU)
    assert 0 < estimate.least_bytes(prepared, fleets[0]) < kinds[0].memory
    assert kinds[0].seconds >= 100 * kinds[0].update > 0


def test_a_dry_run_writes_nothing(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"sweep counter {SMALL} --batch 8,16 --out {tmp_path / 'run'} --dry-run"
    main(words.split())
    said = capsys.readouterr().out
    assert "2 cells at 2 points of the grid, in 2 fleets; 0 cells are finished" in " ".join(said.split())
    assert not (tmp_path / "run").exists()


def test_a_sweep_from_a_file_is_that_of_the_command_line(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        'experiment = "counter"\npreset = "quick"\nfleet = 4\n[axes]\nlength = 6\nlr = 0.01\nc_tr = 1.0\n'
        'reft_rates = "none"\niterations = 4\nevaluation_samples = 20\ncontrols = false\nbatch = [8, 16]\n'
        "constructed = false\nthird_operand = false\nseeds = 1\n"
    )
    out = tmp_path / "run"
    main(["sweep", "--file", str(file), "--out", str(out)])
    main(f"sweep counter {SMALL} --batch 8,16 --out {out}".split())  # the same: nothing is refused
    assert Run.read(out).metrics()["batch"].unique().sort().to_list() == [8, 16]
    capsys.readouterr()
    main(["status", str(out)])
    assert "2 of 2 cells are finished" in capsys.readouterr().out
    main(["verify", str(out)])
    (next((out / "cells").iterdir()) / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(out)])
    said = capsys.readouterr().out
    assert ended.value.code == 1
    assert "metrics.parquet is damaged" in said
    assert "veneer sweep --file" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sweep counter --bacth 3", "did you mean batch"),
        ("sweep counter --batch", "one value or more"),
        ("sweep counter --batch x", "type int"),
        ("sweep counter --evaluation-samples 1e13 --length 6", "1 to 10,000,000"),
        ("sweep countre --batch 3", "counter"),
        ("sweep counter --preset fast", "preset"),
        ("sweep counter --jobs 0 --engine processes --length 6", "jobs"),
        ("sweep counter --jobs 0 --engine processes --length 6 --dry-run", "jobs"),
        ("sweep counter --address auto --length 6", "only with --engine ray"),
        pytest.param("sweep counter --engine ray --address 127.0.0.1:1", "nothing answers there", marks=RAY),
        ("sweep counter --length 6 --out /proc/veneer", "a folder that can be written"),
        ("sweep --file nowhere.toml", "TOML"),
        ("status nowhere", "a folder made by veneer run"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: str, said: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (2, 1)
    assert said in err
    assert not list(tmp_path.iterdir())


def test_an_address_where_nobody_answers_is_refused_before_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("address", "nowhere:1", "the address of a running Ray cluster")

    monkeypatch.setattr("veneer.commands.sweep.engine_of", refuse)
    monkeypatch.setattr("veneer.experiments.begin.prepare_sweep", pytest.fail)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "counter", "--engine", "ray", "--address", "nowhere:1", "--batch", "8,16"])
    assert (ended.value.code, capsys.readouterr().err.count("\n")) == (2, 1)


def test_a_field_of_words_takes_its_words_only() -> None:
    base = CounterExperiment()
    assert sweep_of(base, {"precision": ["bfloat16"]}).base.precision == "bfloat16"
    with pytest.raises(InputError, match="float32 or bfloat16"):
        sweep_of(base, {"precision": ["half"]})


def test_a_sweep_with_a_third_operand_does_not_ask_the_capability_for_it(cache: Path, tmp_path: Path) -> None:
    grid = sweep_of(replace(ONE, third_operand=True, evaluation_samples=200), {"batch": ["16", "32"]})
    prepared, points = prepare_sweep(grid)
    run = Run.open(tmp_path / "run", "quick", grid.base, grid.axes)
    listening = Quiet()
    execute(prepared, run, CPU, run.plan(prepared.cells, 4, points), listening)
    assert any(cell["stage"]["name"] == "third-operand" for cell in run.cells())
    assert listening.notices == []
    assert len(list(run.path.glob("capabilities/*"))) == grid.base.seeds  # one task, asked at every point
