"""veneer run layers: what is trained and compared, what is refused, and what a finished run shows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from tests.claims.made_up_layers import write_run
from veneer.commands.layers_run import show
from veneer.commands.main import main
from veneer.experiments.layers import work as layers_work
from veneer.experiments.layers.lessons import lessons_of
from veneer.experiments.layers.result import conclude
from veneer.experiments.layers.settings import LAYERS, Layers, LayerTrial
from veneer.experiments.layers.store import LayersRun
from veneer.experiments.layers.work import Workshop, work
from veneer.language.instructions.base import fresh_base, ready_base
from veneer.language.instructions.corpus import passages
from veneer.language.instructions.tasks import HELD_OUT
from veneer.language.readability import coleman_liau, flesch_kincaid
from veneer.models.loading import load_model, load_tokenizer
from veneer.report.paper.layers import COLOURS, distributions

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
OFTEN = """
import sys
from functools import partial
from veneer.commands.main import main
from veneer.experiments.layers import work
work.train = partial(work.train, state_seconds=0.0)
main(sys.argv[1:])
"""
"""The command line, but with a state of its training kept after every update."""


def call(*words: str) -> int:
    try:
        main([*words])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--method", "magic"], "method"),
        (["--tasks", "copy", "fly"], "fly"),
        (["--tasks", "copy", "sort"], "two clusters"),
        (["--ceiling", "copy"], "ceiling"),
        (["--seeds", "1", "--tasks", "copy", "review", "--ceiling", "sort"], "copy, review"),
        (["--held-out", "fly"], "held_out"),
        (["--base", "/nowhere"], "/nowhere"),
        (["--data", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["--texts", "3"], "texts"),
        (["--updates", "0"], "0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_and_nothing_is_written(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert call("run", "layers", *words, "--out", str(out)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and says in told and "Traceback" not in told
    assert not out.exists()


def test_every_preset_has_every_model_once_and_compares_each_task_with_each_seed() -> None:
    for settings in LAYERS.values():
        run = LayersRun(Path("none"), settings)
        trials = run.trials()
        assert len({trial.id for trial in trials}) == len(trials)
        models = [trial for trial in trials if trial.kind == "specialist"]
        compared = [trial for trial in trials if trial.kind == "compare"]
        assert len(models) == len(compared) == settings.seeds * len(run.lessons.tasks)


def test_held_out_tasks_are_taught_to_their_specialists_only() -> None:
    lessons = lessons_of(Layers(cluster_examples=40))
    taught = {example.task for example in lessons.mixture(0)}
    assert taught == set(lessons.seen) and not taught & set(HELD_OUT)
    assert all(lessons.taught(task, 3, 0) for task in HELD_OUT)


def test_others_are_of_other_clusters() -> None:
    lessons = lessons_of(Layers())
    for task, cluster in lessons.clusters.items():
        assert len(lessons.others(task)) == 2
        assert all(lessons.clusters[other] != cluster for other in lessons.others(task))


def test_prompts_are_asked_once_and_were_not_trained_on() -> None:
    lessons = lessons_of(Layers())
    asked = [own.prompt for own in lessons.asked("sort", 30)]
    assert len(set(asked)) == len(asked) == 30
    assert not set(asked) & {own.prompt for own in lessons.taught("sort", 200, 0)}


def test_no_passage_has_the_form_of_an_instruction() -> None:
    text = "\n".join(passages(60))
    assert "Instruction:" not in text and "Answer:" not in text and "Input:" not in text


def test_the_ready_base_reads_every_task_and_knows_none_of_their_form() -> None:
    model, tokenizer = load_model(ready_base()), load_tokenizer(ready_base())
    assert model.blocks == 8 and model.vocabulary == len(tokenizer)
    assert (
        tokenizer.decode(tokenizer("Answer: Paris", add_special_tokens=False)["input_ids"]) == "Answer: Paris"
    )


def test_readability_orders_texts() -> None:
    easy = ["The cat sat. The dog ran."]
    hard = [
        "Notwithstanding considerable organisational difficulties, international cooperation intensified."
    ]
    assert flesch_kincaid(easy) < flesch_kincaid(hard)
    assert coleman_liau(easy) < coleman_liau(hard)


def test_a_finished_run_shows_its_map_and_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", seeds=2)
    result = conclude(run)
    assert result.sentence.startswith("Layers: shared 1 to 2, transition 3")
    assert call("report", str(run.path)) == 0
    page = (run.path / "report.html").read_text()
    assert result.sentence in page and page.count("<svg") > 10
    assert call("status", str(run.path)) == 0
    assert call("verify", str(run.path)) == 1  # made up: there are no weights
    assert "lacks multi-task-seed-0.safetensors" in capsys.readouterr().out
    (run.path / "trials" / "base-seed-0.json").write_text("{")
    assert call("verify", str(run.path)) == 1
    assert "base-seed-0 is damaged" in capsys.readouterr().out


def test_tasks_that_were_not_learned_are_named_and_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", seeds=1, right=lambda model, task: 0.0 if task == "sort" else 0.9)
    result = conclude(run)
    assert result.plain()["left_out"] == {"sort": "its specialist and the multi-task model did not learn it"}
    assert "sort" not in result.measured.kept()


def test_a_spread_of_few_tasks_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = ("copy", "review", "capital")
    run = write_run(tmp_path / "run", seeds=1, right=lambda model, task: 0.9 * (task in good))
    result = conclude(run)
    assert result.rows and not any(row.spread for row in result.rows)
    assert "fewer than 4" in result.sentence
    show(result)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert call("report", str(run.path)) == 0


def test_figures_have_boxes_where_a_spread_is_told_and_lines_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "run", seeds=2)
    assert call("figures", str(run.path), "--out", str(tmp_path / "figures")) == 0
    assert len(list((tmp_path / "figures").glob("fig*.svg"))) == 6
    measured = conclude(run).measured
    many, few = measured.kept()[:4], measured.kept()[:1]
    one, other = distributions(measured, [("many", many), ("few", few)], (2, 2)).axes
    assert len(one.patches) == 2 * len(measured.layers) and not other.patches
    drawn = {line.get_color(): np.asarray(line.get_ydata()) for line in other.get_lines()}
    for pair in ("base", "multi-task"):
        assert list(drawn[COLOURS[pair]]) == pytest.approx(measured.by_task(pair, few)[0])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base that knows nothing."""
    folder = tmp_path_factory.mktemp("layers") / "base"
    model, tokenizer = fresh_base(60, 0)
    model.module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def tiny(base: str, **changed: Any) -> Layers:
    """A run that is done in seconds."""
    given: dict[str, Any] = dict(
        tasks=("review", "feeling", "capital", "opposite"), updates=2, multi_updates=3, batch=2, look=1,
        examples=8, cluster_examples=8, texts=8, questions=4, mapped=4, picture="pca", known=0, seeds=2,
    )  # fmt: skip
    return Layers(base=base, **{**given, **changed})


def begin(base: str, out: Path) -> subprocess.Popen[bytes]:
    """A small run by the command line, in a process of its own."""
    sizes = "--updates 40 --multi-updates 60 --batch 2 --look 8 --examples 40 --cluster-examples 40 --texts 8"
    rest = "--questions 4 --mapped 0 --known 0 --seeds 1 --jobs 1 --quiet"
    words = ["run", "layers", "--base", base, "--tasks", "review", "capital", *sizes.split(), *rest.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OFTEN, *words, "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


@pytest.mark.slow
def test_a_run_whose_process_is_killed_at_random_moments_ends_with_the_same_bits(
    base: str, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert begin(base, whole).wait() == 0
    moment, in_training = Random(17), 0
    for _ in range(3):
        process = begin(base, killed)
        done = len(list(killed.glob("trials/*.json")))
        while len(list(killed.glob("trials/*.json"))) == done:  # it works, and not only begins
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        time.sleep(moment.random())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        in_training += any(killed.glob("states/*.safetensors"))
    assert in_training > 1, "hardly any kill hit a training"
    assert begin(base, killed).wait() == 0
    one, other = LayersRun.read(whole), LayersRun.read(killed)
    assert not other.problems() and not list(killed.glob("states/*"))
    for trial in one.trials():
        assert one.result(trial) == other.result(trial), trial.told
        for mine, yours in zip(one.kept(trial), other.kept(trial), strict=True):
            assert mine.read_bytes() == yours.read_bytes(), trial.told
    for name in ("accuracy", "similarity", "dimensions"):
        assert (whole / f"{name}.parquet").read_bytes() == (killed / f"{name}.parquet").read_bytes()


@pytest.mark.slow
def test_one_seed_has_a_ceiling_of_the_tasks_that_are_named(base: str, tmp_path: Path) -> None:
    run = LayersRun.open(tmp_path / "run", tiny(base, seeds=1, ceiling=("capital",), mapped=0))
    work(run, CPU)
    assert not run.problems()
    table = run.similarity().filter(pair="ceiling")
    assert set(table["task"]) == {"capital"} and set(table["other"]) == {"seed 1"}
    seeds = run.accuracy().filter(model="specialist").group_by("task").agg(pl.col("seed"))
    assert dict(seeds.rows())["capital"] == [0, 1] and dict(seeds.rows())["review"] == [0]


@pytest.mark.slow
def test_training_ends_at_the_first_look_at_which_enough_is_right(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = LayersRun(tmp_path, tiny(base, updates=8, look=2))
    monkeypatch.setattr(Workshop, "answers", lambda self, model, tasks: {})
    rising = iter([0.5, 0.98, 1.0])
    monkeypatch.setattr(layers_work, "share", lambda scored: next(rising))
    nothing = lambda told, step: None  # noqa: E731
    assert Workshop(run, CPU).tune(LayerTrial("specialist", "review"), nothing)["updates"] == 4


def test_what_a_training_is_watched_by_is_neither_taught_nor_asked() -> None:
    lessons = lessons_of(Layers())
    for task in ("sort", "larger", "follows"):
        watched = {own.input for own in lessons.watched([task])}
        taught = {own.input for own in lessons.taught(task, 300, 0)}
        assert watched and not watched & (taught | {own.input for own in lessons.asked(task, 100)})


@pytest.mark.slow
def test_a_run_goes_on_exactly_and_ends_with_the_same_numbers(base: str, tmp_path: Path) -> None:
    run = LayersRun.open(tmp_path / "run", tiny(base))
    count = work(run, CPU)
    assert count == len(run.trials()) and not run.problems()
    lost = [LayerTrial("multi-task", "", 1), LayerTrial("compare", "capital", 1)]
    before = [json.dumps(run.result(trial), sort_keys=True) for trial in lost]
    weights = load_file(run.weights(lost[0]))
    for trial in lost:
        (run.path / "trials" / f"{trial.id}.json").unlink()
    assert work(run, CPU) == len(lost)
    assert [json.dumps(run.result(trial), sort_keys=True) for trial in lost] == before
    again = load_file(run.weights(lost[0]))
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    shop = Workshop(run, CPU)
    table = run.similarity()
    assert set(table["pair"].unique()) == {
        "base", "multi-task", "ceiling", "floor", "other task", "base and multi-task"
    }  # fmt: skip
    states = shop.states(shop.base, run.lessons.asked("review", 8))
    assert states.shape == (8, 8, 80)
