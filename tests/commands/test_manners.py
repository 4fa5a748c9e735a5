"""Every command answers --help with 0 and a missing argument with 2, and tells as JSON what it shows."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

from tests.report import fakes
from veneer import __version__
from veneer.commands import main as cli
from veneer.commands import manners, options, progress
from veneer.commands.completion import words_of
from veneer.experiments.analyse import ANALYSES
from veneer.experiments.named import PRESETS
from veneer.experiments.store import Run
from veneer.models.files import write_table
from veneer.tasks.errors import InputError

ALONE = {"list", "claims"}  # these say something without an argument


def ended(words: list[str]) -> int:
    try:
        cli.main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_exits_with_0_and_a_missing_argument_with_2(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended([command, "--help"]) == 0
    assert len(capsys.readouterr().out) > 20
    if command not in ALONE:
        assert ended([command]) == 2
        said = capsys.readouterr()
        assert "Traceback" not in said.err and (said.err or said.out)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--version"])
    assert capsys.readouterr().out == f"veneer {__version__}\n"


def test_json_is_printed_alone_or_written_beside_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["list", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["command"] == "list" and printed["format"] == manners.FORMAT
    quick = PRESETS["counter"]["quick"]
    models = len(quick.learning_rates) * len(quick.c_tr)
    assert printed["experiments"]["counter"]["quick"]["fine_tunings"] == models
    cli.main(["list", "--json", str(tmp_path / "list.json")])
    assert "counter" in capsys.readouterr().out
    assert json.loads((tmp_path / "list.json").read_text()) == printed


def test_the_list_fits_80_columns_and_names_no_time_that_was_not_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    presets = {preset for own in PRESETS.values() for preset in own}
    for preset in presets:
        assert any(line.startswith(f"  {preset} ") for line in lines), preset
    times = [line for line in lines if " min" in line or " h," in line]
    said = re.compile(r"on two cores (about|not measured).* on a GPU (about|not measured)")
    assert times and all(said.search(line) for line in times)
    assert any("on a GPU not measured" in line for line in lines)


def test_a_command_that_tells_nothing_has_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["report", "--json", "somewhere"]) == 2
    assert "a command that tells something" in capsys.readouterr().err


def test_common_words_may_stand_anywhere() -> None:
    words, found = manners.take(["--quiet", "run", "counter", "--log-level=info", "--json", "--lr", "0.1"])
    assert words == ["run", "counter", "--lr", "0.1"]
    assert (found.quiet, found.log_level, found.json) == (True, "info", "print")
    with pytest.raises(InputError, match="debug, info, warning, error"):
        manners.take(["list", "--log-level", "loud"])


def test_the_rates_have_their_short_name_in_run_as_in_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    from veneer.commands import run

    taken: list[object] = []
    monkeypatch.setattr(run, "run_experiment", lambda options, experiment: taken.append(experiment))
    for flags in (["--lr", "0.1", "0.01"], ["--learning-rates", "0.1", "0.01"]):
        cli.main(["run", "counter", *flags, "--reft-lr", "0.001"])
    assert taken[0] == taken[1]
    assert getattr(taken[0], "learning_rates") == (0.1, 0.01)  # noqa: B009
    for flags in (["--reft-rates", "none"], ["--reft-lr", "none", "--no-controls"]):
        cli.main(["run", "counter", *flags])
        assert getattr(taken[-1], "reft_rates") == ()  # noqa: B009


def test_the_folder_of_runs_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VENEER_RUNS", str(tmp_path))
    assert options.claims_folder() == tmp_path / "claims"
    monkeypatch.delenv("VENEER_RUNS")
    assert options.claims_folder() == Path("runs/claims")


def test_a_home_is_that_of_the_user_however_the_folder_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (["--out=~/x"], ["--out", "~/x"]):
        assert options.parse(options.RunOptions, words, "veneer run").out == tmp_path / "x"
    assert options.parse(options.RunOptions, ["--out=~nobody-here/x"], "veneer run").out == Path(
        "~nobody-here/x"
    )


def test_claims_without_arguments_tell_of_what_lies_in_the_runs_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VENEER_RUNS", str(tmp_path))
    assert ended(["claims"]) == 0
    assert "no run" in capsys.readouterr().out


def test_help_names_every_analysis() -> None:
    text = Path(options.__file__).read_text()
    listed = text.split("The analyses to make, of ")[1].split(";")[0]
    assert listed.split(", ") == list(ANALYSES)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_names_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["completion", "bash"])
    script = capsys.readouterr().out
    for line, wanted in (("veneer sta", "status"), ("veneer run max", "max-identifier"),
                         ("veneer run counter --learn", "--learning-rates"),
                         ("veneer run layers --learn", "--learning-rate")):  # fmt: skip
        words = line.split()
        asked = (
            f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _veneer; echo ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(["bash", "-c", script + asked], capture_output=True, text=True, timeout=20)
        assert done.stdout.split() == [wanted], done.stderr
    assert "--only" in words_of("analyse")
    assert {"--never", "--jobs"} < set(words_of("relearn"))


def test_the_time_left_is_not_told_from_the_first_updates() -> None:
    """Twelve of 230,640 updates, in which everything starts, would say two days."""
    shown = progress.LiveProgress(230_640)
    shown._began = time.monotonic() - 9
    shown.updates(12)
    assert shown._left() == ""
    shown.updates(9_000)
    assert shown._left() == ", about 4 min left"


def test_status_sends_to_the_analysis_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.open(tmp_path / "run", "quick", fakes.EXPERIMENT)
    cells = fakes.cells_of(fakes.EXPERIMENT)
    fakes.write_surroundings(run, cells)
    for cell in cells:
        fakes.store(run, cell)
    cli.main(["status", str(run.path)])
    assert f"Next: veneer analyse {run.path}" in capsys.readouterr().out
    write_table(run.path / "analysis" / "verdicts.parquet", pl.DataFrame({"kind": ["wrapped"]}))
    cli.main(["status", str(run.path)])
    assert f"Next: veneer figures {run.path}" in capsys.readouterr().out
