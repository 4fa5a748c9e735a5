"""Runs that are alike but for settings and seeds are read as one: more seeds where they are needed."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.claims.made_up import EITHER, NO, YES, Made, Rows, answer, counter, learned, wavering
from veneer.claims.list import claims, evaluate, with_alike
from veneer.claims.view import View
from veneer.commands.main import main
from veneer.commands.options import RunOptions, ask
from veneer.experiments.named import PRESETS, CounterExperiment
from veneer.experiments.store import KEYS

RESULTS = Path(__file__).parents[2] / "results"


def some_of(made: Made, seeds: range, kept: Callable[[dict[str, Any]], bool] = lambda row: True) -> Made:
    """Of a run these seeds, and the settings that are kept, as if no more had been asked for."""
    made.rows = [row for row in made.rows if row["seed"] in seeds and kept(row)]
    fields = made.experiment["fields"]
    fields |= {"first_seed": seeds[0], "seeds": len(seeds)}
    fields["learning_rates"] = sorted({row["fine_tuning_rate"] for row in made.rows} - {None})
    fields["c_tr"] = sorted({row["c_tr"] for row in made.rows} - {None})
    return made


def one_setting(rate: float, c_tr: float) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["fine_tuning_rate"] == rate and row["c_tr"] == c_tr


def hidden_keys(made: Made, pt: float, ft: float) -> Made:
    """The table of hidden keys as the paper has it, but with C_Tr = 1 with these shares of answers."""
    rows: Rows = []
    for keys in pl.DataFrame(made.rows).filter(stage="fine-tune").unique("cell").select(*KEYS).to_dicts():
        at_one, large = keys["c_tr"] == 1, keys["learning_rate"] > 5e-2
        moved = not at_one and keys["learning_rate"] > 5e-3
        shares = (pt, ft) if at_one else (0.1 if large else 0.6, 0.9) if moved else (0.9, 0.1)
        for on, share in zip(("pt", "ft"), shares, strict=True):
            place = {"asked": None, "texts": "natural", "hidden": on}
            rows.append({**keys, **place, "changed": share + 0.002 * keys["seed"]})
    made.table("attention_hidden", rows)
    return made


def seeds_by_setting(made: Made, *more: Made) -> dict[str, int]:
    return {part.where: part.effect.seeds for part in answer("1a", made, *more).parts}


def test_more_seeds_of_one_setting_count_there_and_nowhere_else(tmp_path: Path) -> None:
    whole = some_of(counter(tmp_path / "whole"), range(3))
    more = some_of(counter(tmp_path / "more"), range(3, 5), one_setting(1e-2, 1.0))
    assert set(seeds_by_setting(whole).values()) == {3}
    both = seeds_by_setting(whole, more)
    assert {where for where, seeds in both.items() if seeds == 5} == {"rate 0.01, C_Tr = 1, compiled"}
    assert sorted(both.values()) == [3, 3, 3, 5]
    assert both == seeds_by_setting(more, whole)  # the run with the most settings is the one that is asked


def test_settings_that_the_run_asked_does_not_have_are_left_alone(tmp_path: Path) -> None:
    """They would ask for seeds that nobody trained."""
    narrow = some_of(counter(tmp_path / "narrow"), range(3), lambda row: row["c_tr"] == 1)
    few = some_of(counter(tmp_path / "few"), range(3, 5))
    narrow.experiment["fields"]["seeds"], few.experiment["fields"]["seeds"] = 3, 2
    assert set(seeds_by_setting(narrow, few).values()) == {5}
    assert {part.where for part in answer("1a", narrow, few).parts} == set(seeds_by_setting(narrow))
    assert answer("2", narrow, few).parts == answer("2", narrow).parts  # asked of C_Tr up to 0.8


def test_more_seeds_decide_what_three_left_open(tmp_path: Path) -> None:
    def apart(seed: int) -> float:
        return 0.65 if seed == 0 else 0.2

    whole = some_of(counter(tmp_path / "whole", wrong=apart, seeds=9), range(3))
    more = some_of(counter(tmp_path / "more", wrong=apart, seeds=9), range(3, 9))
    assert answer("1a", whole).outcome == EITHER
    found = answer("1a", whole, more)
    assert (found.outcome, found.seeds) == (YES, 9)
    assert found.runs == (str(more.path), str(whole.path))  # the one with the most seeds is asked
    assert f"with seeds of {whole.path}" in found.explanation


def test_a_seed_that_both_have_is_that_of_the_run_that_is_asked(tmp_path: Path) -> None:
    whole = counter(tmp_path / "whole")
    again = some_of(counter(tmp_path / "again", wrong=0.9), range(5), one_setting(1e-2, 1.0))
    assert answer("1a", again).outcome == NO
    assert answer("1a", whole, again).outcome == YES


def test_a_seed_that_diverged_is_not_replaced_by_another_runs(tmp_path: Path) -> None:
    whole = some_of(counter(tmp_path / "whole"), range(3))
    for row in whole.rows:
        if row["seed"] == 2 and one_setting(1e-2, 1.0)(row):
            row["status"] = "diverged at step 7"
    again = some_of(counter(tmp_path / "again"), range(2, 4), one_setting(1e-2, 1.0))
    assert seeds_by_setting(whole, again)["rate 0.01, C_Tr = 1, compiled"] == 3  # 0, 1 and 3


@pytest.mark.parametrize("field", ["iterations", "clip", "noise", "length", "reft_iterations"])
def test_runs_of_other_settings_are_not_read_as_one(tmp_path: Path, field: str) -> None:
    whole = some_of(counter(tmp_path / "whole"), range(3))
    other = some_of(counter(tmp_path / "other"), range(3, 5), one_setting(1e-2, 1.0))
    other.experiment["fields"][field] = 7
    assert set(seeds_by_setting(whole, other).values()) == {3}


def test_tables_of_analyses_are_read_together_and_a_run_without_is_left_out_and_named(tmp_path: Path) -> None:
    near = wavering(0.05, 0.3)
    whole = hidden_keys(some_of(counter(tmp_path / "whole"), range(3)), 0.9, 0.1)
    more = some_of(counter(tmp_path / "more"), range(3, 5), one_setting(1e-1, 1.0))
    without = answer("7", whole, more)
    assert "seeds were left out" in without.explanation
    assert f"veneer analyse {more.path}" in without.explanation
    assert {part.effect.seeds for part in without.parts} == {3} and without.runs == (str(whole.path),)
    found = answer("7", whole, hidden_keys(more, near(0), near(1)))
    (part,) = (p for p in found.parts if p.where == "rate 0.1, C_Tr = 1")
    assert part.effect.seeds == 5
    third = some_of(counter(tmp_path / "third", seeds=7), range(5, 7), one_setting(1e-1, 1.0))
    again = answer("7", whole, third, more)
    assert again.runs == found.runs, "one run without the table does not keep another one out"
    assert f"seeds were left out: {third.path} has no table" in again.explanation
    same = some_of(counter(tmp_path / "same"), range(3, 5), one_setting(1e-1, 1.0))
    assert answer("7", whole, same, more).runs == found.runs, "nor one that has the same seeds"
    assert part.effect.value == pytest.approx((3 * 0.8 + 2 * (near(0) - near(1))) / 5, abs=1e-6)


def test_revivals_are_read_together(tmp_path: Path) -> None:
    def control(seed: int) -> float:
        return 60.0 if seed == 1 else 400.0

    whole = some_of(counter(tmp_path / "whole", control=control, seeds=9), range(3))
    more = some_of(counter(tmp_path / "more", control=control, seeds=9), range(3, 9))
    assert (answer("4a", whole).outcome, answer("4a", whole).seeds) == (EITHER, 3)
    assert (answer("4a", whole, more).outcome, answer("4a", whole, more).seeds) == (YES, 9)


def two_lengths(path: Path, seeds: range, folder: str, updates: int = 4000) -> Made:
    """Pretrainings of two lengths, of which each seed has its own, kept in a folder."""

    def kept(seed: int) -> float:
        return 0.35 if seed == 0 else 0.5

    made = some_of(learned(path, names=("long", "short"), kept=kept, seeds=9), seeds)
    for name, length in (("long", 12000), ("short", updates)):
        made.capability(name, (0.9, 0.1, 0.0), iterations=length, own=True)
    made.experiment["fields"]["pretrained"] = [f"{folder}/{name}-{{seed}}" for name in ("long", "short")]
    return made


def test_pretrainings_of_other_seeds_are_read_together_wherever_they_lie(tmp_path: Path) -> None:
    three = two_lengths(tmp_path / "three", range(3), "runs/a")
    assert (answer("9", three).outcome, answer("9", three).seeds) == (EITHER, 3)
    found = answer("9", three, two_lengths(tmp_path / "six", range(3, 9), "runs/b"))
    assert (found.outcome, found.seeds) == (YES, 9)
    shorter = two_lengths(tmp_path / "shorter", range(3, 6), "runs/c", updates=2000)
    assert answer("9", three, shorter).runs == (str(three.path),), "another length is another model"


def asked_for(made: Made, command: str) -> CounterExperiment:
    """The run that a command makes, which must be one whose seeds count."""
    words = shlex.split(command.split(" && ")[0])
    assert words[:3] == ["veneer", "run", "counter"]
    _, experiment = ask(RunOptions("quick"), PRESETS["counter"]["quick"], words[3:], "veneer run counter", "")
    assert isinstance(experiment, CounterExperiment)
    assert made.view.alike(Made(Path("new"), experiment, made.rows).view)
    return experiment


def test_an_open_claim_says_which_seeds_would_decide_it_in_which_settings(tmp_path: Path) -> None:
    def apart(seed: int) -> float:
        return 0.65 if seed == 0 else 0.2

    made = some_of(counter(tmp_path / "run", wrong=apart), range(3))
    found = answer("1a", made)
    (command,) = found.more
    asked = asked_for(made, command)
    assert found.minutes is None, "nobody trained this run"
    assert (asked.first_seed, asked.seeds) == (3, 6), "nine in all"
    assert (asked.learning_rates, asked.c_tr) == ((1e-1, 1e-2, 1e-3, 1e-4), (1.0,)), (
        "it is open at every rate"
    )
    assert "veneer analyse" not in command, "accuracies decide it"
    assert not answer("1a", counter(tmp_path / "decided")).more


def open_in_one_setting(path: Path) -> Made:
    """Three seeds, of which one looks elsewhere after 1e-3 with C_Tr = 1."""
    made = hidden_keys(some_of(counter(path), range(3)), 0.9, 0.1)
    table = pl.read_parquet(made.path / "analysis/attention_hidden.parquet")
    one = (pl.col("c_tr") == 1) & (pl.col("learning_rate") == 1e-3) & (pl.col("seed") == 1)
    changed = pl.when(one & (pl.col("hidden") == "pt")).then(0.1).otherwise(pl.col("changed"))
    made.table("attention_hidden", table.with_columns(changed=changed).to_dicts())
    return made


def test_what_is_open_in_one_setting_is_asked_for_there_with_its_analysis(tmp_path: Path) -> None:
    made = open_in_one_setting(tmp_path / "run")
    view = made.view
    view.read.add("pruning")  # as another claim would
    (claim,) = claims(["7"])
    found = evaluate(claim, [view])
    assert found.outcome == EITHER, found.explanation
    (command,) = found.more
    asked = asked_for(made, command)
    assert (asked.learning_rates, asked.c_tr, asked.first_seed) == ((1e-3,), (1.0,), 3)
    assert asked.control_rate == 0.1, "models from scratch learn at the rate that the run's did"
    assert command.endswith(f"&& veneer analyse {made.path}-0.001-c-tr-1-from-3 --only attention")


def test_seeds_that_have_no_pretraining_are_not_offered(tmp_path: Path) -> None:
    made = two_lengths(tmp_path / "run", range(3), "runs/nowhere")
    assert answer("9", made).outcome == EITHER and not answer("9", made).more
    made.experiment["fields"]["pretrained"] = ["M-4000-{seed}", "M-12000-{seed}"]
    (command,) = answer("9", made).more
    assert "--first-seed 3 --seeds 2 " in command, "seeds 3 and 4 are ready"
    assert "--learning-rates 0.003 0.001 0.0003 0.0001 --c-tr 0 0.8 1" in command, (
        "it is a mean of all settings"
    )


def test_seeds_of_another_pretraining_that_is_shared_are_not_read_together(tmp_path: Path) -> None:
    """Six seeds of two pretrainings are not six seeds."""
    one = some_of(learned(tmp_path / "one", seeds=6), range(3))
    same = some_of(learned(tmp_path / "same", seeds=6), range(3, 6))
    assert answer("1b", one, same).seeds == 6
    other = some_of(learned(tmp_path / "other", seeds=6), range(3, 6))
    for file in other.path.glob("capabilities/*/accuracy.json"):
        file.write_text(file.read_text().replace('"capability": "0"', '"capability": "1"'))
    assert answer("1b", one, other).seeds == 3


def test_a_run_of_shared_pretrainings_does_not_spoil_one_in_which_each_seed_has_its_own(
    tmp_path: Path,
) -> None:
    own = two_lengths(tmp_path / "own", range(3, 9), "runs/a")
    shared = two_lengths(tmp_path / "shared", range(3), "runs/a")
    for name, length in (("long", 12000), ("short", 4000)):
        shared.capability(name, (0.9, 0.1, 0.0), iterations=length)
    shared.experiment["fields"]["pretrained"] = ["runs/a/long", "runs/a/short"]
    assert (answer("9", own, shared).outcome, answer("9", own, shared).seeds) == (YES, 6)


def test_a_seed_with_other_weights_in_another_run_is_left_out(tmp_path: Path) -> None:
    def part(name: str, rate: float, weights: str) -> Made:
        made = some_of(two_lengths(tmp_path / name, range(9), f"runs/{name}"), range(3, 5))
        made.rows = [row for row in made.rows if row["fine_tuning_rate"] == rate]
        for file in made.path.glob("capabilities/*/accuracy.json"):
            file.write_text(file.read_text().replace('"capability": "', f'"capability": "{weights}'))
        return made

    mixed = part("b", 1e-3, "b"), part("c", 1e-4, "c")
    whole = two_lengths(tmp_path / "whole", range(3), "runs/whole").view
    view = with_alike(whole, [made.view for made in mixed])
    assert isinstance(view, View)
    assert set(view.values("natural_pt", "long", 1e-3, 0.0)) == {0, 1, 2, 3, 4}
    assert set(view.values("natural_pt", "long", 1e-4, 0.0)) == {0, 1, 2}, "its 3 and 4 are other models"


def test_a_run_whose_seeds_are_in_no_inequality_is_not_named(tmp_path: Path) -> None:
    whole = some_of(counter(tmp_path / "whole"), range(3))
    one = some_of(counter(tmp_path / "one"), range(3, 5), one_setting(1e-2, 1.0))
    zero = some_of(counter(tmp_path / "zero"), range(3, 5), one_setting(1e-2, 0.0))
    of_one, of_zero = answer("1a", whole, zero, one), answer("2", whole, zero, one)
    assert of_one.runs == (str(whole.path), str(one.path)), "it is asked of C_Tr = 1"
    assert of_zero.runs == (str(whole.path), str(zero.path)), "it is asked of less"
    assert str(zero.path) not in of_one.explanation and str(one.path) not in of_zero.explanation


def test_a_run_with_no_setting_in_common_is_not_named(tmp_path: Path) -> None:
    whole = some_of(counter(tmp_path / "whole"), range(3), lambda row: row["fine_tuning_rate"] != 0.1)
    other = some_of(counter(tmp_path / "other"), range(3, 5), one_setting(1e-1, 1.0))
    found = answer("1a", whole, other)
    assert found.runs == (str(whole.path),) and str(other.path) not in found.explanation


def test_seeds_that_are_there_are_not_asked_for_again(tmp_path: Path) -> None:
    """Not even those that were left out because nothing was looked at in them."""
    whole = open_in_one_setting(tmp_path / "whole")
    unread = some_of(counter(tmp_path / "unread"), range(3, 5), one_setting(1e-3, 1.0))
    found = answer("7", whole, unread)
    assert "seeds were left out" in found.explanation
    (command,) = found.more
    assert asked_for(whole, command).first_seed == 5


def test_what_is_not_analysed_is_not_called_a_missing_run(capsys: pytest.CaptureFixture[str]) -> None:
    main(["claims", str(RESULTS / "counter-reft"), "--only", "7"])
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        f"7 not analysed; this does it: veneer analyse {RESULTS / 'counter-reft'} --only attention" in shown
    )


def test_below_an_open_claim_stands_what_adds_seeds_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["claims", str(RESULTS / "table-3"), "--only", "1a", "2"])
    shown = capsys.readouterr().out
    assert "1a open" not in shown, "it is decided"
    below = shown.split("2 open; this adds seeds where it is")[1]
    assert (
        "--preset paper --first-seed 3 --seeds 6 --learning-rates 0.01 --c-tr 0.5 0.6 --reft-rates" in below
    )
    assert "--first-seed 3 --seeds 6 --learning-rates 0.001 --c-tr 0.2 " in below
