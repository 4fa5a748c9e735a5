"""``veneer pretrain pcfg``: what it keeps, that it goes on, and what it refuses."""

import json
import shlex
from dataclasses import replace
from glob import glob
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from veneer.commands.main import main
from veneer.experiments.cells import prepare
from veneer.experiments.named import PcfgCounterExperiment
from veneer.pcfg.capability import LearnedCapability

OPTIONS = """
    --window 8 --count-last 4 --occurrence 1 --token-back 2 --width 8 --heads 2 --blocks 1 --iterations 6
    --keep 3 --evaluation-samples 10 --batch 4 --device cpu --priors M 0.7/0.2/0.1
"""
TINY = ["pretrain", "pcfg", *OPTIONS.split()]


def test_models_are_kept_with_their_prior_and_their_answers(tmp_path: Path) -> None:
    main([*TINY, "--out", str(tmp_path / "run")])
    kept = LearnedCapability.load(tmp_path / "run" / "0.7-0.2-0.1-seed-0-6")
    assert kept.operand_prior == (0.7, 0.2, 0.1) and kept.iterations == 6
    metrics = pl.read_parquet(tmp_path / "run" / "metrics.parquet")
    own = metrics.filter((pl.col("prior") == "0.7/0.2/0.1") & (pl.col("question") != "train"))
    earlier = LearnedCapability.load(tmp_path / "run" / "0.7-0.2-0.1-seed-0-3")
    for model in (earlier, kept):
        written = own.filter(step=model.iterations).select("question", "accuracy")
        assert dict(written.iter_rows()) == model.accuracy
    assert earlier.iterations == 3
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_a_finished_pretraining_is_not_trained_again(tmp_path: Path) -> None:
    main([*TINY, "--out", str(tmp_path / "run")])
    file = tmp_path / "run" / "metrics.parquet"
    before = file.stat().st_mtime_ns
    main([*TINY, "--out", str(tmp_path / "run")])
    assert file.stat().st_mtime_ns == before


def test_what_is_said_to_come_next_fine_tunes_every_model_and_pretrainings_are_its_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[PcfgCounterExperiment] = []
    monkeypatch.setattr("veneer.commands.run.run_experiment", lambda _, experiment: asked.append(experiment))
    for seeds, names in ((1, {"M-seed-0-6", "0.7-0.2-0.1-seed-0-6"}), (2, {"M-6", "0.7-0.2-0.1-6"})):
        out = tmp_path / f"with {seeds}"
        main([*TINY, "--seeds", str(seeds), "--out", str(out)])
        (said,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Next: veneer "))
        words = [
            name for word in shlex.split(said)[2:] for name in (sorted(glob(word)) if "*" in word else [word])
        ]
        main(words)
        made = prepare(replace(asked[-1], q=1, iterations=1, evaluation_samples=1)).cells
        found = {(cell.origin.name, cell.seed) for cell in made}
        steps = {
            (name.replace("-6", f"-{step}"), seed)
            for name in names
            for step in (3, 6)
            for seed in range(seeds)
        }
        assert {(n, s) for n, s in found if s < seeds} == steps


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--priors X", "prior"),
        ("--priors 0.5/0.6/0.1", "operand_prior"),
        ("--window 3", "count_last"),
        ("--heads 3", "heads"),
        ("--grammar missing.txt", "grammar file"),
        ("--grammar SHORT", "window"),
        ("--keep 99", "keep"),
        ("--learning-rate nan", "learning_rate"),
        ("--seeds 0", "seeds"),
        ("--first-seed -1", "first_seed"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    options: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (short := tmp_path / "short.txt").write_text("S -> 'a' 'b' [0.5] | 'b' 'a' 'c' [0.5]")
    with pytest.raises(SystemExit) as stopped:
        main([*TINY, *options.replace("SHORT", str(short)).split(), "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and error.startswith(f"veneer: {named}")
    assert not (tmp_path / "run").exists()


def test_a_recursive_grammar_is_pretrained_on_with_the_cap_that_its_refusal_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The strings are the grammar's up to that length, and the checkpoint knows the cap."""
    file, out = tmp_path / "recursive.txt", tmp_path / "run"
    file.write_text("S -> S S [0.5] | 'a' [0.3] | 'b' [0.1] | 'c' [0.1]")
    words = [*TINY, "--grammar", str(file), "--out", str(out)]
    with pytest.raises(SystemExit):
        main(words)
    refused = capsys.readouterr().err
    assert "--max-length 100" in refused and not out.exists()
    main([*words, "--max-length", "9"])
    made = LearnedCapability.load(next(out.glob("*.safetensors")))
    assert made.layout.grammar.max_length == 9
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*words, "--max-length", "8"])
    assert "max_length: 9 -> 8" in capsys.readouterr().err


def test_a_folder_of_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*TINY, "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        main([*TINY, "--out", str(tmp_path / "run"), "--iterations", "7"])
    assert "it holds others" in capsys.readouterr().err


def test_pretrainings_of_other_seeds_are_those_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*TINY, "--seeds", "3", "--out", str(tmp_path / "all")])
    capsys.readouterr()
    main([*TINY, "--seeds", "2", "--first-seed", "1", "--out", str(tmp_path / "more")])
    assert "--seeds 2 --first-seed 1 --pretrained" in capsys.readouterr().out
    found = {file.name: file for file in (tmp_path / "more").glob("*.safetensors")}
    assert {name.split("-seed-")[1][0] for name in found} == {"1", "2"} and len(found) == 2 * 2 * 2
    for name, file in found.items():
        own, same = load_file(file), load_file(tmp_path / "all" / name)
        assert own.keys() == same.keys() and all(torch.equal(own[key], same[key]) for key in own)


def test_a_pretraining_from_before_there_was_a_first_seed_goes_on(tmp_path: Path) -> None:
    main([*TINY, "--out", str(tmp_path / "run")])
    file = tmp_path / "run" / "pretraining.json"
    older = json.loads(file.read_text())
    del older["first_seed"]
    file.write_text(json.dumps(older))
    main([*TINY, "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        main([*TINY, "--out", str(tmp_path / "run"), "--first-seed", "1"])
