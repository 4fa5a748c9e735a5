"""What a user types first: open a run, ask its models, make one, compile, load; and what refusals say."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest
import torch

import veneer
from tests.tiny import Quiet
from veneer.commands.options import CompileOptions
from veneer.experiments.named import CounterExperiment
from veneer.tasks.errors import InputError

FIELDS = {
    "length": 6,
    "letters": "abcd",
    "learning_rates": [1e-2, 1e-3],
    "c_tr": 1.0,
    "reft_rates": [1e-3],
    "iterations": 12,
    "reft_iterations": 10,
    "evaluation_samples": 20,
    "controls": False,
    "third_operand": False,
    "seeds": 2,
}


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> veneer.Run:
    return veneer.run("counter", tmp_path_factory.mktemp("runs") / "tiny", **FIELDS)


def refusal(call: object) -> str:
    with pytest.raises(InputError) as refused:
        call()  # pyright: ignore[reportCallIssue]
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_all_public_names_are_there_and_others_are_not() -> None:
    for name in veneer.__all__:
        assert getattr(veneer, name) is not None
    assert set(veneer.__all__) <= set(dir(veneer))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = veneer.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_a_run_is_silent_and_tells_only_the_progress_that_is_given(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    veneer.run("counter", tmp_path / "a", **FIELDS | {"seeds": 1})
    assert capfd.readouterr() == ("", "")
    progress = Quiet()
    veneer.run("counter", tmp_path / "b", progress=progress, **FIELDS | {"seeds": 1})
    assert progress.trained == 2 * 12 + 2 * 10
    assert capfd.readouterr() == ("", "")


def test_the_same_call_trains_nothing_again(run: veneer.Run) -> None:
    progress = Quiet()
    again = veneer.run("counter", run.path, progress=progress, **FIELDS)
    assert progress.trained == 0
    assert again.metrics().equals(run.metrics())


def test_several_values_of_a_plain_field_are_a_sweep(cache: Path, tmp_path: Path) -> None:
    sweep = veneer.run("counter", tmp_path / "sweep", **FIELDS | {"seeds": 1, "batch": [8, 16]})
    assert "batch" in sweep.models().columns
    asked = {"rate": 1e-2, "seed": 0}
    assert sweep.model(**asked, batch=8).settings["cell"] != sweep.model(**asked, batch=16).settings["cell"]
    assert "batch = None" in refusal(lambda: sweep.model(**asked))
    assert "batch = 9" in refusal(lambda: sweep.model(**asked, batch=9))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_run_is_opened_by_any_kind_of_path(run: veneer.Run, kind: type) -> None:
    assert veneer.load(kind(run.path)).metrics().equals(run.metrics())
    assert "no experiment.json" in refusal(lambda: veneer.load(kind(run.path / "cells")))


def test_a_run_and_its_models_say_what_they_are(run: veneer.Run) -> None:
    assert re.fullmatch(r"Run\('.*tiny': counter \(quick\), 8 cells finished, not analysed\)", repr(run))
    model = run.model(rate=1e-3, seed=1, reft=1e-3)
    assert repr(model).startswith(
        "TunedModel(compiled, reft, fine-tuned at 0.001 with C_Tr 1, reFT at 0.001, "
    )
    assert repr(run.capability(seed=0)).startswith("CompiledCapability(Counter of 'a' (Alg. 1)")
    assert repr(veneer.load_capability("M")).startswith("LearnedCapability(jain2024, windows of 40")


def test_tables_are_named_and_become_those_of_pandas(run: veneer.Run) -> None:
    pytest.importorskip("pandas")
    assert run.tables == ["metrics", "models"]
    frame = run.metrics().to_pandas()
    assert list(frame.columns) == run.metrics().columns
    assert len(run.table("metrics").to_pandas()) == len(run.metrics())
    said = refusal(lambda: run.table("pruning"))
    assert "table = 'pruning'" in said and "metrics, models" in said and "veneer analyse" in said
    assert "table = 'verdicts'" in refusal(run.verdicts)


def test_analyses_are_tables_of_the_run(run: veneer.Run) -> None:
    veneer.analyse(run.path, ["revival", "verdicts"])
    assert {"revival", "verdicts"} <= set(run.tables)
    assert run.verdicts()["kind"].dtype == pl.String
    for name in ("revival", "verdicts"):  # the other tests have a run that nobody looked into
        (run.path / "analysis" / f"{name}.parquet").unlink()
    for rest in (run.path / "analysis").iterdir():
        rest.unlink()


def test_a_model_is_the_one_that_was_stored(run: veneer.Run) -> None:
    model = run.model(rate=1e-2, seed=0)
    row = run.models().filter(pl.col("cell") == model.settings["cell"]).row(0, named=True)
    assert (row["stage"], row["fine_tuning_rate"], row["seed"]) == ("fine-tune", 1e-2, 0)
    before = run.capability(seed=0)
    assert isinstance(before, veneer.CompiledCapability)
    assert not torch.equal(model.model.unembedding, torch.zeros_like(model.model.unembedding))
    assert model.token_ids("abcabc") == before.token_ids("abcabc")
    assert model.answer("abcabc") in range(7)
    assert before.answer("aabcaa") == 4


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"seed": 0}, ["rate = None", "choose one", "0.01, 0.001"]),
        ({"rate": 1e-3}, ["seed = None", "choose one", "valid: 0, 1"]),
        ({"rate": 0.5, "seed": 0}, ["rate = 0.5", "no model", "0.01, 0.001"]),
        ({"rate": 1e-3, "seed": 7}, ["seed = 7", "valid: 0, 1"]),
        ({"rate": 1e-3, "c_tr": 0.3, "seed": 0}, ["c_tr = 0.3", "valid: 1"]),
        ({"rate": 1e-3, "reft": 1.0, "seed": 0}, ["reft = 1.0", "valid: 0.001"]),
        ({"rate": 1e-3, "seed": 0, "capability": "M"}, ["capability = 'M'", "compiled"]),
        ({"rate": 1e-3, "seed": 0, "start": "scratch"}, ["start = 'scratch'", "valid: capability"]),
        ({"rate": 1e-3, "seed": 0, "batch": 3}, ["axis = 'batch'", "no sweep"]),
    ],
)
def test_an_ambiguous_or_missing_model_is_refused_with_what_there_is(
    run: veneer.Run, asked: dict, words: list[str]
) -> None:
    said = refusal(lambda: run.model(**asked))
    assert all(word in said for word in words), said


def test_a_model_is_asked_for_logits_and_activations(run: veneer.Run) -> None:
    model = run.model(rate=1e-3, seed=0)
    logits = model.logits("abcabc")
    assert logits.shape == (7, model.model.config.classes)
    assert model.answer("abcabc") == model.decode(logits[2])
    captured = model.capture("abcabc", "residual.0", "attention.1")
    assert {name: tuple(value.shape) for name, value in captured.items()} == {
        "residual.0": (7, model.model.config.width),
        "attention.1": (model.model.config.heads, 7, 7),
    }
    assert set(model.capture("abc")) == set(model.model.captures)
    said = refusal(lambda: model.capture("abcabc", "residual.77"))
    assert "capture = 'residual.77'" in said and "residual.0" in said


def test_texts_that_a_model_does_not_know_are_refused(run: veneer.Run) -> None:
    model = run.model(rate=1e-3, seed=0)
    assert "'z'" in refusal(lambda: model.answer("abz"))
    assert "at most 6" in refusal(lambda: model.answer("abcabca"))
    assert "operand = 'a'" in refusal(lambda: model.answer("abc", operand="a"))
    learned = veneer.load_capability("M")
    text = "abc" * 13 + "a"
    assert learned.answer(text, operand="a") in learned.layout.vocabulary  # pyright: ignore
    assert "40 tokens" in refusal(lambda: learned.answer("abc", operand="a"))
    assert "operand = None" in refusal(lambda: learned.answer(text))
    assert "task_token = 'X'" in refusal(lambda: learned.answer(text, operand="a", task_token="X"))


def test_a_learned_capability_reads_a_text_as_in_its_training() -> None:
    learned = veneer.load_capability("M")
    assert isinstance(learned, veneer.LearnedCapability)
    words = [learned.layout.vocabulary[i] for i in learned.token_ids("c" * 40, operand="b", task_token="I")]
    assert words == ["SOS", "I", "?b", "@3", "SOT", *"c" * 40, "EOT", "ART"]
    assert len(words) - 1 == learned.answer_position


def test_a_function_is_compiled(cache: Path) -> None:
    from tracr.rasp import rasp

    def length() -> rasp.SOp:
        return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE))

    for program in (length, length()):
        assert veneer.compile(program, "abc", 5).answer("abca") == [4, 4, 4, 4]
    assert "program = 'wrong'" in refusal(lambda: veneer.compile(wrong, "abc", 5))
    with pytest.raises(ZeroDivisionError):  # in Python, what the caller's own function raises stays as it is
        veneer.compile(fails, "abc", 5)


def wrong() -> int:
    return 3


def test_python_and_the_command_line_compile_alike_by_default() -> None:
    arguments = inspect.signature(veneer.compile).parameters
    options = {field.name: field.default for field in fields(CompileOptions)}
    shared = [name for name, argument in arguments.items() if argument.kind is argument.KEYWORD_ONLY]
    assert {name: options[name] for name in shared} == {name: arguments[name].default for name in shared}


def fails() -> float:
    return 1 / 0


def test_a_capability_is_loaded_from_where_it_was_saved(cache: Path, tmp_path: Path) -> None:
    from veneer.compiled.capabilities import counter

    made = counter("a", "abcd", 6)
    made.save(str(tmp_path / "mine"))
    again = veneer.load_capability(str(tmp_path / "mine"))
    assert again.answer("abacad") == made.answer("abacad") == 3
    said = refusal(lambda: veneer.load_capability(tmp_path / "nothing"))
    assert "H, L, M, M-12000-{seed}, M-4000-{seed}, jailbreak, or a checkpoint" in said


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: veneer.run("countre"), ["experiment = 'countre'", "counter"]),
        (lambda: veneer.run("counter", preset="big"), ["preset = 'big'", "quick, standard, paper"]),
        (lambda: veneer.run("counter", iteration=3), ["axis = 'iteration'", "iterations"]),
        (lambda: veneer.run("counter", iterations="x"), ["iterations = 'x'", "whole number"]),
        (lambda: veneer.run("counter", device="tpu"), ["device = 'tpu'", "auto, cpu or cuda"]),
        (lambda: veneer.run("counter", fleet=0), ["fleet = 0", "1 or more"]),
        (lambda: veneer.run(CounterExperiment(q=99)), ["q = 99"]),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_nothing(
    call: object, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refusal(call)
    assert all(word in said for word in words), said
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_format_is_refused_with_what_to_do(run: veneer.Run, tmp_path: Path) -> None:
    described = (run.path / "experiment.json").read_text()
    (tmp_path / "experiment.json").write_text(described.replace('"format": 3', '"format": 2'))
    said = refusal(lambda: veneer.load(tmp_path))
    assert "it has format 2" in said and "environment.json" in said and "new folder" in said


def test_what_a_user_sees_behind_the_dot_is_what_is_promised() -> None:
    assert dir(veneer) == sorted(veneer.__all__)
    assert all(getattr(veneer, name) is not None for name in veneer.__all__)
