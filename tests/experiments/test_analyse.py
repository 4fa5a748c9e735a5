"""What is inside a run's models: every table names its cells, and what is missing is asked for by name."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.tiny import CPU, Quiet
from veneer.analysis.constructed import TRUTHS
from veneer.analysis.grafting import Grafting
from veneer.analysis.probing import ProbeSettings
from veneer.analysis.pruning import Pruning
from veneer.analysis.search import Search
from veneer.experiments.analyse import ANALYSES, Selection, analyse, sweep_in
from veneer.experiments.cells import prepare
from veneer.experiments.evidence import evidence_of, known, verdict_table
from veneer.experiments.named import CounterExperiment
from veneer.experiments.origins import Source, start
from veneer.experiments.run import execute
from veneer.experiments.store import KEYS, Run, read_json, write_json
from veneer.experiments.sweep import Sweep, prepare_sweep
from veneer.finetune.cell import Origin
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Task
from veneer.tasks.errors import InputError

EXPERIMENT = CounterExperiment(
    length=5,
    learning_rates=(0.1,),
    c_tr=(1.0,),
    reft_rates=(1e-3,),
    iterations=12,
    reft_iterations=10,
    evaluation_samples=24,
    seeds=2,
    constructed=True,
)


def made(experiment: CounterExperiment, folder: Path) -> Run:
    prepared = prepare(experiment)
    run = Run.open(folder / "run", "quick", experiment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("veneer.experiments.maps.MAP_TEXTS", 16)
        patch.setattr("veneer.experiments.run.CAPABILITY_TEXTS", 16)
        execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    return run


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        few = Pruning(ks=(1, 5), draws=1, gradient_texts=32, samples=16)
        patch.setattr("veneer.experiments.inside.PRUNING", few)
        tries = {"scored": 8, "moved": 4, "choosing": 16, "finalists": 2, "confirming": 16, "most": 2}
        searched = Search(**tries, gradient_texts=32, samples=16)
        patch.setattr("veneer.experiments.inside.SEARCH", searched)
        patch.setattr("veneer.experiments.inside.GRAFTING", Grafting(singles=1, ks=(1, 10), samples=16))
        patch.setattr("veneer.experiments.inside.PROBES", ProbeSettings(train=128, test=64))
        run = made(EXPERIMENT, tmp_path_factory.mktemp("analysed"))
        analyse(run, CPU)
        yield run


def table(run: Run, name: str) -> pl.DataFrame:
    return pl.read_parquet(run.path / "analysis" / f"{name}.parquet")


def test_every_table_of_models_says_which_models_in_the_same_columns(run: Run) -> None:
    for name in ("pruning", "pruned", "classes", "grafting", "movement", "directions", "probes", "attention"):
        assert table(run, name).columns[: len(KEYS)] == list(KEYS), name


def test_pruning_and_grafting_look_at_what_fine_tuning_left_and_at_constructed_models(run: Run) -> None:
    looked_at = table(run, "grafting").select("start", "stage", "seed").unique()
    tuned = {("capability", "fine-tune", seed) for seed in range(2)}
    built = {(f"{t}: {name}", "capability", seed) for name, t in TRUTHS.items() for seed in range(2)}
    assert set(looked_at.rows()) == tuned | built
    assert set(table(run, "pruning")["cell"]) == set(table(run, "grafting")["cell"])


def test_grafting_everything_back_gives_the_capability_whatever_was_constructed(run: Run) -> None:
    back = table(run, "grafting").filter(
        (pl.col("direction") == "back") & (pl.col("texts") == "natural") & (pl.col("operand") == "pt")
    )
    whole = back.filter(pl.col("k") == pl.col("k").max())
    assert len(whole) == 2 * (1 + len(TRUTHS))
    assert whole["accuracy"].min() == 1.0


def test_probes_have_their_upper_and_lower_lines(run: Run) -> None:
    lines = set(table(run, "probes").select("start", "stage").unique().rows())
    assert lines == {("capability", "capability"), ("capability", "fine-tune"), ("scratch", "fine-tune")}


def test_the_controls_of_a_setting_are_of_its_own_rate_of_reft(run: Run) -> None:
    times = table(run, "revival")
    assert set(times["arm"]) >= {"reft", "third", "scratch-ft", "scratch"}
    ratios = table(run, "ratios")
    assert set(ratios["control"]) == {"third", "scratch-ft", "scratch"}
    assert ratios["learning_rate"].unique().to_list() == [1e-3]
    assert ratios.filter(pl.col("threshold") == 0.5)["seeds"].max() <= 2


def test_every_constructed_model_is_judged_beside_the_fine_tuned(run: Run) -> None:
    verdicts = table(run, "verdicts")
    truths, found = known(verdicts)
    assert sorted(truths) == sorted(TRUTHS.values())
    assert len(found) == len(truths)
    assert len(verdicts) == len(truths) + 1
    assert verdicts.filter(pl.col("start") == "capability")["seeds"].to_list() == [2]


def test_a_known_wrapper_does_not_vouch_for_itself(run: Run) -> None:
    evidence = {start: found for _, start, found in evidence_of(run, run.metrics())}
    tuned, wrapper = evidence["capability"].revivals[0], evidence["wrapped: outputs permuted"].revivals[0]
    assert tuned.wrappers is not None
    assert wrapper.wrappers is not None
    assert (tuned.wrappers[1], wrapper.wrappers[1]) == (2 * 4, 2 * 3)


def test_a_table_that_is_complete_is_not_made_again(run: Run) -> None:
    def times() -> dict[str, int]:
        names = ("pruning", "grafting", "probes", "attention")
        return {name: (run.path / "analysis" / f"{name}.parquet").stat().st_mtime_ns for name in names}

    before = times()
    analyse(run, CPU, ("pruning", "grafting", "probes", "attention"))
    assert times() == before


def test_the_noise_of_a_capability_is_drawn_once_however_many_analyses_ask_for_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    for table in (tmp_path / "run" / "analysis").iterdir():
        table.unlink()
    drawn: list[Origin] = []

    def counted(source: Source, origin: Origin, task: Task) -> Transformer:
        drawn.append(origin)
        return start(source, origin, task)

    monkeypatch.setattr("veneer.experiments.cells.start", counted)
    analyse(Run.read(tmp_path / "run"), CPU, ("pruning", "attention"))
    assert drawn and len(drawn) == len(set(drawn))


def test_the_experiment_is_read_back_as_it_was(run: Run) -> None:
    assert sweep_in(run) == Sweep(EXPERIMENT)


def test_a_sweep_is_judged_point_by_point(cache: Path, tmp_path: Path) -> None:
    small = replace(EXPERIMENT, seeds=1, constructed=False)
    sweep = Sweep(small, {"batch": (4, 8)})
    prepared, points = prepare_sweep(sweep)
    run = Run.open(tmp_path / "sweep", "quick", small, sweep.axes)
    fleets = run.plan(prepared.cells, 4, points)
    execute(prepared, run, CPU, fleets, Quiet())
    assert sweep_in(run) == sweep
    analyse(run, CPU, ("revival", "verdicts"))
    assert sorted(table(run, "verdicts")["batch"]) == [4, 8]
    assert sorted(table(run, "ratios")["batch"].unique()) == [4, 8]


def test_methods_share_controls_and_one_that_only_forgets_need_not_teach(cache: Path, tmp_path: Path) -> None:
    small = replace(EXPERIMENT, seeds=1, constructed=False)
    sweep = Sweep(small, {"method": ("full", "ascent")})
    prepared, points = prepare_sweep(sweep)
    run = Run.open(tmp_path / "sweep", "quick", small, sweep.axes)
    execute(prepared, run, CPU, run.plan(prepared.cells, 4, points), Quiet())
    baselines = read_json(run.path / "baselines.json")
    for own in baselines.values():
        for texts in own["texts"].values():
            texts["majority"] = {"pt": 0.4, "ft": 0.4}  # so few letters may have one answer only
    write_json(run.path / "baselines.json", baselines)
    analyse(run, CPU, ("revival", "verdicts"))
    ratios = table(run, "ratios")
    assert set(ratios["method"]) == {"full", "ascent"} and set(ratios["seeds"]) <= {0, 1}
    learned = dict(table(run, "verdicts").select("method", "learned").iter_rows())
    assert learned["full"] is not None and learned["ascent"] is None


def test_verdicts_need_no_analysis_but_then_say_less(run: Run, tmp_path: Path) -> None:
    bare = Run(tmp_path / "bare")
    bare.path.mkdir()
    for part in run.path.iterdir():
        if part.name != "analysis":
            (bare.path / part.name).symlink_to(part)
    less, more = verdict_table(bare), verdict_table(run)
    assert len(less) == len(more)
    assert not any("grafting" in reason for reasons in less["reasons"] for reason in reasons)


def test_a_selection_that_takes_nothing_is_told_in_the_options_words(run: Run) -> None:
    with pytest.raises(
        InputError, match=r"'rates 0\.5 and seeds 98, 99': no finished fine-tuning"
    ) as refused:
        analyse(run, CPU, ("revival",), selection=Selection(rates=(0.5,), seeds=(98, 99)))
    assert "Selection(" not in str(refused.value)


def test_an_analysis_that_does_not_exist_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match=", ".join(ANALYSES)):
        analyse(run, CPU, ("x-ray",))


def test_a_run_without_reft_is_told_which_stage_is_missing(cache: Path, tmp_path: Path) -> None:
    bare = made(replace(EXPERIMENT, reft_rates=(), seeds=1, constructed=False), tmp_path)
    with pytest.raises(InputError, match="reFT") as refused:
        analyse(bare, CPU, ("revival",))
    assert "veneer run counter" in str(refused.value)


def test_a_run_that_diverged_has_nothing_to_look_into(cache: Path, tmp_path: Path) -> None:
    wild = replace(EXPERIMENT, learning_rates=(1e30,), seeds=1, constructed=False, controls=False)
    with pytest.raises(InputError, match="diverged"):
        analyse(made(wild, tmp_path), CPU)


def test_a_run_that_has_not_begun_is_told_how_to_begin(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="veneer run counter"):
        analyse(Run.open(tmp_path / "new", "quick", EXPERIMENT), CPU)


@pytest.mark.slow
def test_worker_processes_make_the_same_tables(run: Run, tmp_path: Path) -> None:
    """Those of attention, whose settings the tests leave as they are, and no others."""
    copy = Run(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    shutil.rmtree(copy.path / "analysis")
    made_now = analyse(copy, CPU, ("attention",), jobs=2)
    assert {path.stem.partition("_")[0] for path in made_now} == {"attention"}
    for path in made_now:
        assert_frame_equal(pl.read_parquet(path), table(run, path.stem), check_exact=True)
