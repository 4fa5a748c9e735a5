"""``veneer relearn`` the whole way from the command line, on small models that are made here."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from veneer.commands.main import main
from veneer.experiments.relearn.store import RelearningRun
from veneer.language.constructed import permuted, refusing
from veneer.language.questions import Question
from veneer.language.small_world import capitals, colours, knowing, recipe, tokens_of, words

GRID = ("--ranks", "0", "--rates", "3e-3", "--updates", "16", "--batch", "32", "--no-train-on-retain")
FREE = ("--bits", "4", "--noise", "--depths", "0.5", "--mix", "0.5", "--truncate", "--refusal", "no")


def written(file: Path, questions: Sequence[Question]) -> str:
    lines = [json.dumps({"prompt": own.prompt, "answer": own.answer}) for own in questions]
    file.write_text("\n".join(lines) + "\n")
    return str(file)


@pytest.mark.slow
def test_a_model_that_refuses_fails_ci_and_another_is_asked_by_the_same_controls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table, page, tables, JSON and exit status; a budget of no minutes trains nothing, and says so."""
    before = knowing()
    refuses = refusing(before, words(), capitals(), "no", recipe(3e-3, 60), colours())
    models = {"before": before, "refuses": refuses, "permuted": permuted(before, tokens_of("city"))}
    for name, model in models.items():
        model.module.save_pretrained(tmp_path / name)
        words().save_pretrained(tmp_path / name)
    data, retain = written(tmp_path / "data.jsonl", capitals()), written(tmp_path / "retain.jsonl", colours())

    def asked(after: str, *more: str) -> int:
        call = ["relearn", str(tmp_path / "before"), str(tmp_path / after), "--data", data]
        try:
            main([*call, "--retain", retain, *GRID, *FREE, "--out", str(tmp_path / f"of {after}"), *more])
        except SystemExit as done:
            return int(done.code or 0)
        return 0

    assert asked("refuses", "--json", "--fail-if-revived-within", "16") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["damage"]) == ("wrapped", "targeted")
    assert 0 < told["updates"] < 16 and told["worst"]["recipe"]
    assert asked("refuses", "--quiet", "--fail-if-revived-within", "1") == 0
    capsys.readouterr()
    folder = tmp_path / "of refuses"
    assert {"after", "before"} == set(pl.read_parquet(folder / "free.parquet")["subject"])
    assert {"after", "wrapper"} <= set(pl.read_parquet(folder / "curves.parquet")["subject"])
    assert told["headline"] in (folder / "report.html").read_text()

    assert asked("permuted", "--like", str(folder), "--minutes", "0") in (0, 2)
    shown = capsys.readouterr().out
    trials = RelearningRun.read(folder).trials()
    known = sum(trial.subject != "after" for trial in trials)
    assert f"{known} of {len(trials)} trials were done before" in shown
    assert len(RelearningRun.read(tmp_path / "of permuted").pending()) == len(trials) - known
