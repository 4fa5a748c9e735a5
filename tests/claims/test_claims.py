"""How claims are judged: which runs and seeds count, what the documents say, and what is printed."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.claims.made_up import (
    EITHER,
    GUESS,
    NO,
    PRIORS,
    YES,
    Made,
    accuracies,
    answer,
    cell,
    counter,
)
from veneer.analysis.evidence import skill
from veneer.analysis.revival import Estimate
from veneer.claims import rules
from veneer.claims import rules_inside as inside
from veneer.claims import rules_learned as learned
from veneer.claims.evidence import Measured, Part, judge
from veneer.claims.list import CLAIMS, OUTCOMES
from veneer.claims.needs import COMMANDS
from veneer.commands.main import main
from veneer.commands.run import TEXTS
from veneer.commands.run import command as run_command
from veneer.experiments.folder import FORMAT
from veneer.experiments.named import PRESETS, Experiment
from veneer.experiments.paper import paper_table
from veneer.experiments.store import Run, write_json


def test_small_rates_that_learned_nothing_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    made = counter(tmp_path)
    for row in made.rows:
        if row["learning_rate"] == 1e-4 and row["stage"] == "fine-tune" and row["operand"] == "ft":
            row["value"] = GUESS
    found = answer("1a", made)
    assert found.outcome == YES
    assert "left out rate 0.0001" in found.explanation


def test_a_diverged_seed_is_a_seed_less(tmp_path: Path) -> None:
    made = counter(tmp_path, seeds=3)
    for row in made.rows:
        if row["seed"] == 2 and row["learning_rate"] == 0.1:
            row["status"] = "diverged at step 10"
    found = answer("1a", made)
    assert found.outcome == EITHER
    assert "2 of the 3 seeds asked for" in found.explanation


def test_a_run_without_its_analysis_is_no_run_and_says_how_to_make_it(tmp_path: Path) -> None:
    found = answer("7", counter(tmp_path))
    assert found.outcome == "no run"
    assert f"veneer analyse {tmp_path}" in found.explanation


def test_a_run_without_from_scratch_controls_cannot_tell_how_fast_reft_is(tmp_path: Path) -> None:
    made = counter(tmp_path)
    made.experiment["fields"]["controls"] = False
    assert answer("4a", made).outcome == "no run"
    assert answer("3", made).outcome == YES


def test_of_several_runs_the_one_with_most_seeds_is_asked(tmp_path: Path) -> None:
    few, many = counter(tmp_path / "few", seeds=5), counter(tmp_path / "many", seeds=6, wrong=0.9)
    assert answer("1a", few, many).runs == (str(tmp_path / "many"),)
    assert answer("1a", many, few).outcome == NO


def test_of_several_runs_with_seeds_enough_the_one_with_most_settings_is_asked(tmp_path: Path) -> None:
    """Seeds beyond those that the claim asks for do not stand before the settings that it is about."""
    grid, narrow = counter(tmp_path / "grid", seeds=3), counter(tmp_path / "narrow", seeds=9)
    narrow.rows = [row for row in narrow.rows if row["learning_rate"] == 0.1]
    assert answer("1a", grid, narrow).runs[0] == str(tmp_path / "grid")
    too_few = counter(tmp_path / "too few", seeds=2)
    assert answer("1a", too_few, narrow).runs == (str(tmp_path / "narrow"),)


def test_an_inequality_is_decided_by_its_interval_alone() -> None:
    def holds(low: float | None, high: float | None, seeds: int = 5) -> bool | None:
        return Part("x", "", Estimate(0.5, low, high, seeds), above=0.3).holds(5)

    assert holds(0.31, 0.9) is True
    assert holds(0.1, 0.29) is False
    assert holds(0.1, 0.9) is None
    assert holds(None, 0.9) is None
    assert holds(0.4, 0.9, seeds=4) is None
    between = Part("x", "", Estimate(1.0, 0.6, 2.5, 5), above=0.5, below=2.0)
    assert between.holds(5) is None


def test_one_refuted_setting_refutes_a_claim_and_one_open_setting_leaves_it_open() -> None:
    held, refuted, open_ = (
        Part("x", word, Estimate(value, value - 0.1, value + 0.1, 5), above=0.5)
        for word, value in (("held", 0.9), ("refuted", 0.1), ("open", 0.5))
    )
    assert judge(Measured([held, held]), 5).outcome == YES
    assert judge(Measured([held, open_]), 5).outcome == EITHER
    found = judge(Measured([held, open_, refuted]), 5)
    assert found.outcome == NO
    assert found.effect == refuted.effect


def test_commands_are_runs_that_the_claims_they_are_for_accept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Experiment] = []
    monkeypatch.setattr("veneer.commands.run.run_experiment", lambda _, experiment: asked.append(experiment))
    for need in (need for claim in CLAIMS for need in claim.needs):
        words = COMMANDS[need.command].words
        assert words[0] in {*PRESETS, *TEXTS}
        if words[0] in PRESETS:
            run_command(list(words))
            made = Made(tmp_path / need.command, asked[-1], [])
            for name in getattr(asked[-1], "pretrained", ("compiled",)):
                made.rows += accuracies(cell(name, 1e-3, 1.0, 0), {}, {})
                updates, own = 4000 if "4000" in name else 6000, "{seed}" in name
                made.capability(name, PRIORS.get(name, (0.9, 0.1, 0.0)), updates, own)
            assert need.fits(made.view), need.words
    assert {need.command for claim in CLAIMS for need in claim.needs} == set(COMMANDS)


def test_documented_rules_are_those_in_the_code() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "claims.md").read_text().split())
    for claim in CLAIMS:
        assert claim.statement in text, claim.number
        assert " ".join(claim.rule.split()) in text, claim.number
        assert " ".join(claim.changed.split()) in text, claim.number
    for command in COMMANDS.values():
        assert f"veneer run {' '.join(command.words)}" in text
    for outcome, meaning in OUTCOMES.items():
        assert f"**{outcome}**: {meaning}" in text


def test_rates_are_named_as_the_paper_names_them(tmp_path: Path) -> None:
    for preset in ("standard", "paper"):
        of = {name: PRESETS[name][preset] for name in ("counter", "pcfg-counter")}
        sizes = {
            name: [Made(tmp_path, made, []).view.size(rate) for rate in sorted(made.learning_rates)]
            for name, made in of.items()
        }
        assert sizes["counter"] == ["VS", "S", "M", "L"]
        assert {"M", "L"} <= set(sizes["pcfg-counter"]) <= {"S", "M", "L"}
    assert sizes["pcfg-counter"][0] == "S"  # the paper's own
    assert Made(tmp_path, PRESETS["pcfg-counter"]["paper"], []).view.size(1e-5) == "M"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run's folder of the Counter."""
    made = counter(tmp_path / "run")
    described = {"format": FORMAT, "preset": "quick", **made.experiment}
    write_json(tmp_path / "run" / "experiment.json", described)
    monkeypatch.setattr(Run, "metrics", lambda self: made.metrics())
    monkeypatch.setattr(Run, "baselines", lambda self, task: made.baselines(task))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "run"


def test_the_table_and_the_file_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["claims", str(folder), "--json", "out.json", "--only", "1", "2"])
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if "veneer run" not in line) <= 80
    written = json.loads(Path("out.json").read_text())["claims"]
    assert [row["number"] for row in written] == ["1a", "1b", "2"]
    assert [row["outcome"] for row in written] == [YES, "no run", YES]
    assert written[0]["effect"]["value"] == pytest.approx(0.77)
    assert "+77" in shown
    assert "+92" in shown  # the paper's
    assert "veneer run pcfg-counter --seeds 3" in shown


def test_a_folder_that_is_no_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["claims", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_run_makes_just_the_runs_that_the_claims_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[str]] = []
    monkeypatch.setattr("veneer.commands.run.command", made.append)
    monkeypatch.setattr("veneer.commands.analyse.command", made.append)
    monkeypatch.chdir(tmp_path)
    main(["claims", "--run", "--only", "12"])
    out = "runs/claims/max-identifier"
    run, analyse = made
    assert run == [*COMMANDS["max-identifier"].words, "--out", out, "--device", "auto"]
    assert analyse == [out, "--only", "attention", "--device", "auto"]


def test_thresholds_are_met_by_the_papers_own_numbers() -> None:
    """A rule that the paper's tables would fail would not be its claim."""
    table = paper_table("counter").filter((pl.col("c_te") == 0) & (pl.col("c_tr") <= rules.LITTLE_CORRELATED))
    large, small = (
        table.filter(on)["acc_operand_ft"]
        for on in (pl.col("learning_rate") > 5e-3, pl.col("learning_rate") < 5e-3)
    )
    assert skill(min(large), 0.3) > rules.TAUGHT > skill(max(small), 0.3)
    assert learned._paper_priors() > learned.PRIOR_MARGIN
    assert inside.PAPER_PRUNING > inside.PRUNING_GAIN
