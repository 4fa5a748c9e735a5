"""What would decide an open verdict is one command that repeats the run's own settings, and asks for more."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from veneer.analysis.verdict import SEARCH, SECOND_RATE, Verdict
from veneer.commands.options import RunOptions, ask
from veneer.experiments.deciding import deciding_command
from veneer.experiments.named import PRESETS, CounterExperiment, PcfgCounterExperiment
from veneer.experiments.store import Run

SETTING = {"fine_tuning_rate": 0.1, "c_tr": 1.0, "capability": "compiled"}
QUICK = PRESETS["counter"]["quick"]
OPEN = Verdict("too few seeds", "none", ("One seed.",), ("3 seeds",), "wrapped")


def opened(folder: Path, experiment: CounterExperiment) -> Run:
    return Run.open(folder / "run", "quick", experiment)


def read(command: str) -> CounterExperiment:
    """The experiment that a command asks for."""
    words = command.split(" && ")[0].split()
    assert words[:3] == ["veneer", "run", "counter"]
    _, experiment = ask(RunOptions("quick"), QUICK, words[3:], "veneer run counter", "")
    return experiment


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"length": 6, "batch": 8, "clip": None, "controls": False},
        {"noise": 2e-4, "reft_rates": (1e-3, 1e-2)},
    ],
)
def test_it_has_the_runs_settings_but_one_setting_and_more_seeds(tmp_path: Path, changes: dict) -> None:
    own = replace(QUICK, **changes, seeds=1)
    command = deciding_command(opened(tmp_path, own), SETTING, OPEN, seeds=1)
    assert read(command) == replace(own, learning_rates=(0.1,), c_tr=(1.0,), seeds=3)
    assert f"--out {tmp_path}/run-0.1-1 && veneer analyse {tmp_path}/run-0.1-1" in command


def test_it_can_be_pasted_into_a_shell_and_names_a_model_as_the_run_did(tmp_path: Path) -> None:
    asked = PcfgCounterExperiment(pretrained=("L", "a b/M-{seed}-6.safetensors"))
    run = Run.open(tmp_path / "my run", "quick", asked)
    command = deciding_command(run, SETTING | {"capability": "M-6"}, OPEN, seeds=1)
    first, second = (shlex.split(part) for part in command.split(" && "))
    out = f"{tmp_path}/my run-M-6-0.1-1"
    assert (second, first[first.index("--out") + 1]) == (["veneer", "analyse", out], out)
    assert first[first.index("--pretrained") + 1] == "a b/M-{seed}-6.safetensors"


def test_of_a_sweep_it_names_the_point(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", QUICK, {"batch": [8, 16]})
    for batch in (8, 16):
        command = deciding_command(run, SETTING | {"batch": batch}, OPEN, seeds=1)
        assert read(command).batch == batch
        assert f"--out {tmp_path}/run-0.1-1-{batch} " in command


def test_seeds_that_have_no_pretraining_are_not_asked_for(tmp_path: Path) -> None:
    asked = PcfgCounterExperiment(pretrained=("M-4000-{seed}",), seeds=3)
    command = deciding_command(
        Run.open(tmp_path / "run", "quick", asked), SETTING | {"capability": "M-4000"}, OPEN, seeds=3
    )
    assert "--seeds 5 " in command, "nine were asked for, and five are ready"
    five = Run.open(tmp_path / "five", "quick", replace(asked, seeds=5))
    assert not deciding_command(five, SETTING | {"capability": "M-4000"}, OPEN, seeds=5), "all are used"


def test_it_begins_with_the_seed_that_the_run_began_with(tmp_path: Path) -> None:
    command = deciding_command(opened(tmp_path, replace(QUICK, first_seed=4)), SETTING, OPEN, seeds=3)
    assert (read(command).first_seed, read(command).seeds) == (4, 9)
    asked = PcfgCounterExperiment(pretrained=("M-4000-{seed}",), seeds=1, first_seed=2)
    command = deciding_command(
        Run.open(tmp_path / "learned", "quick", asked), SETTING | {"capability": "M-4000"}, OPEN, seeds=1
    )
    assert "--seeds 3 " in command and "--first-seed 2" in command, "2, 3 and 4 are ready"


def test_without_reft_or_controls_these_are_asked_for_and_no_more_seeds(tmp_path: Path) -> None:
    bare = replace(QUICK, reft_rates=(), controls=False, third_operand=False, seeds=9)
    lacking = Verdict(
        "mixed evidence", "none", ("-.",), ("reFT, beside a third operand and controls from scratch",)
    )
    command = deciding_command(opened(tmp_path, bare), SETTING, lacking, seeds=9)
    assert read(command) == replace(QUICK, learning_rates=(0.1,), c_tr=(1.0,), seeds=9)
    whole = Run.open(tmp_path / "whole", "quick", replace(QUICK, seeds=9))
    assert read(deciding_command(whole, SETTING, lacking, seeds=9)).seeds == 18, "it has them already"


def test_two_models_in_one_setting_have_folders_of_their_own(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", PcfgCounterExperiment(pretrained=("L", "M")))
    commands = [deciding_command(run, SETTING | {"capability": name}, OPEN, seeds=1) for name in "LM"]
    for name, command in zip("LM", commands, strict=True):
        assert f"--out {tmp_path}/run-{name}-0.1-1 " in command


def test_three_seeds_that_scatter_ask_for_nine(tmp_path: Path) -> None:
    command = deciding_command(opened(tmp_path, QUICK), SETTING, OPEN, seeds=3)
    assert read(command).seeds == 9


def test_nine_seeds_that_scatter_ask_for_others_and_not_for_the_same(tmp_path: Path) -> None:
    nine = replace(QUICK, seeds=9)
    assert read(deciding_command(opened(tmp_path, nine), SETTING, OPEN, seeds=9)).seeds == 18
    short = Verdict("mixed evidence", "none", ("-.",), ("a longer reFT: not even its controls get there",))
    longer = deciding_command(Run.open(tmp_path / "long", "quick", nine), SETTING, short, seeds=9)
    assert read(longer).seeds == 9, "they are there; what lacks is updates"


def test_where_not_even_controls_get_there_reft_is_to_be_longer(tmp_path: Path) -> None:
    short = Verdict("mixed evidence", "none", ("-.",), ("a longer reFT: not even its controls get there",))
    command = deciding_command(opened(tmp_path, QUICK), SETTING, short, seeds=3)
    assert read(command).reft_iterations == 3 * QUICK.reft_iterations


def test_one_rate_asks_for_a_smaller_one_and_no_more_seeds(tmp_path: Path) -> None:
    alone = Verdict("mixed evidence", "none", ("-.",), (SECOND_RATE,), "rewritten")
    command = deciding_command(opened(tmp_path, replace(QUICK, reft_rates=(1e-3,))), SETTING, alone, seeds=4)
    assert (read(command).reft_rates, read(command).seeds) == ((1e-3, 1e-4), 4)


def test_what_was_not_searched_asks_for_the_search(tmp_path: Path) -> None:
    before = Verdict("mixed evidence", "none", ("-.",), (SEARCH,), "rewritten")
    run = opened(tmp_path, QUICK)
    assert deciding_command(run, SETTING, before, seeds=4) == f"veneer analyse {run.path}"


def test_what_is_decided_asks_for_nothing(tmp_path: Path) -> None:
    decided = Verdict("wrapped", "moderate", ("Back.",))
    assert deciding_command(opened(tmp_path, QUICK), SETTING, decided, seeds=3) == ""
