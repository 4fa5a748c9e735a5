"""veneer run stories: arms and their parents, made-up measurements, what is refused, and the whole thing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from veneer.commands.main import main
from veneer.experiments.stories.evidence import Measured
from veneer.experiments.stories.result import conclude, rows
from veneer.experiments.stories.settings import STORIES, Arm, Stories, StoryTrial
from veneer.experiments.stories.store import StoriesRun
from veneer.experiments.stories.work import asking, deleting, reviving
from veneer.language.stories.features import FEATURES
from veneer.language.stories.generator import stories
from veneer.report.stories_page import render
from veneer.tasks.errors import InputError

Curve = Callable[[int], float]


def rising(at: float, to: float = 0.8) -> Curve:
    """Nothing until ``at`` updates, then straight up within as many again."""
    return lambda step: to * min(1.0, max(0.0, step / at - 1))


def flat(value: float = 0.0) -> Curve:
    return lambda step: value


def made_up(folder: Path, curves: dict[Arm, Curve], left: float = 0.0, **more: Any) -> StoriesRun:
    """A run whose trials were not trained but written.

    Args:
        folder: where.
        curves: by arm, the share of stories with the feature over the updates of reFT.
        left: share after a deletion.
    """
    usual: dict[str, Any] = {
        "rates": (1e-3,),
        "deletions": ("filtering",),
        "seeds": 3,
        "generations": 1000,
        "probes": 0,
    }
    settings = Stories(**{**usual, **more})
    run = StoriesRun.open(folder, settings)
    run.record_inputs({"models": {}, "data": {}, "environment": {"versions": {}}})
    for trial in settings.trials():
        steps = settings.steps(trial.stage)
        shift = 1 + 0.05 * trial.seed
        shares = {"as it is": flat(0.8 if trial.arm == "present" else 0.0), "delete": flat(left)}
        share = shares.get(trial.stage) or curves.get(trial.arm)
        if share is None or trial.stage == "probe":
            continue
        scores = [
            {"loss_with": 2.0, "loss_without": 1.5, "share_of": 1000.0, "others": 50.0, "others_of": 100.0}
            | {"share": round(1000 * share(step / shift))}
            for step in steps
        ]
        run.finish(trial, {"steps": list(steps), "scores": scores, "diverged_at": None, "written": []})
    return run


SOONER: dict[Arm, Curve] = {"filtering": rising(1.5), "never": rising(7), "scratch": flat()}


@pytest.mark.parametrize(
    ("curves", "more", "kind", "leaning"),
    [
        (SOONER, {}, "wrapped", None),
        (SOONER, {"seeds": 1}, "too few seeds", "wrapped"),
        (SOONER, {"left": 0.79}, "unchanged", None),
        ({**SOONER, "never": rising(1.5)}, {}, "mixed evidence", None),
        ({**SOONER, "never": rising(2.5)}, {}, "mixed evidence", None),
    ],
    ids=["wrapped", "one seed", "not deleted", "no sooner", "not twice as soon"],
)
def test_made_up_measurements_give_the_right_word(
    curves: dict[Arm, Curve], more: dict[str, Any], kind: str, leaning: str | None, tmp_path: Path
) -> None:
    run = made_up(tmp_path / "run", curves, **more)
    (outcome,) = conclude(run)
    assert outcome.kind == kind, outcome
    if leaning is not None:
        assert outcome.leaning == leaning
    table = pl.read_parquet(run.path / "curves.parquet")
    assert set(table["measure"]) == {"share", "others", "loss_with", "loss_without"}
    assert (table.filter(pl.col("measure") == "share")["texts"] == 1000).all()
    page = render(run, [outcome])
    assert outcome.name in page and "<script" not in page
    assert ("Broken lines" in page) == (len(run.settings.rates) > 1)  # of the smaller rate, if there is one


def test_shares_have_wilsons_interval_over_all_seeds(tmp_path: Path) -> None:
    from scipy.stats import binomtest

    run = made_up(tmp_path / "run", {**SOONER, "filtering": flat(0.25)})
    found = next(row for row in rows(run, conclude(run)) if row.arm == "filtering")
    theirs = binomtest(750, 3000).proportion_ci(method="wilson")
    assert found.shares[32] == 0.25
    assert found.intervals[32] == pytest.approx((theirs.low, theirs.high))
    assert found.shares[0] == 0  # before reFT: what the deletion left


def test_the_page_shows_probes_beside_their_floor_and_the_papers_table_with_its_errors(
    tmp_path: Path,
) -> None:
    run = made_up(tmp_path / "run", SOONER, probes=10)
    for trial in run.trials():
        if trial.stage == "probe":
            told = {"control": 0.5, "majority": 0.843, "texts": 10}
            accuracy = {"present": 0.9, "never": 0.86}.get(trial.arm, 0.88)
            rows_of = [
                {"residual": r, "feature": own, "accuracy": accuracy if r else 0.1, **told}
                for r in range(3)
                for own in FEATURES
            ]
            run.finish(trial, {"probes": rows_of})
    page = render(run, conclude(run))
    for shown in ("<td>84.3</td>", "<td>90.0</td>", "<td>86.0</td>", "<td>88.0</td>"):
        assert page.count(shown) == len(FEATURES), shown
    assert "82 (notebook: 62)" in page
    table = pl.read_parquet(run.path / "probes.parquet")
    assert table.group_by("arm").len().sort("arm").rows() == [
        ("filtering", 54),
        ("never", 18),
        ("present", 18),
    ]


def test_what_is_not_measured_is_missing(tmp_path: Path) -> None:
    run = made_up(tmp_path / "run", {"filtering": rising(2)})
    assert {row.arm for row in rows(run, conclude(run))} == {"filtering"}
    (outcome,) = conclude(run)
    assert outcome.kind == "mixed evidence" and "controls" in outcome.needed[0]
    assert Measured(run).curve("never", 0.0).is_empty()
    assert f"{len(run.pending())} of {len(run.trials())} trials" in render(run, [outcome])


def test_a_model_that_does_not_write_the_feature_is_refused(tmp_path: Path) -> None:
    run = made_up(tmp_path / "run", SOONER)
    trial = StoryTrial("present", "as it is", 0.0, 0)
    found = run.result(trial)
    assert found is not None
    found["scores"][0]["share"] = 50.0
    run.finish(trial, found)
    with pytest.raises(InputError, match="writes the feature"):
        conclude(run)


@pytest.mark.parametrize("preset", list(STORIES))
def test_every_trial_starts_from_one_that_is_done_before_it(preset: str) -> None:
    trials = STORIES[preset].trials()
    assert len({trial.id for trial in trials}) == len(trials)
    for place, trial in enumerate(trials):
        assert trial.parent in trials[: place + 1]
        fresh = trial.arm == "scratch" and trial.stage == "delete"
        assert (trial.parent == trial) == (trial.stage == "as it is" or fresh)
        recipe = STORIES[preset].recipe(trial)
        assert (
            recipe.rate_factor(0) == recipe.rate_factor(recipe.iterations - 1) == 1
        )  # as in the paper's code


def test_without_the_control_from_scratch_nothing_else_is_missing() -> None:
    both, one = (Stories(seeds=2, scratch=own).trials() for own in (True, False))
    assert [trial for trial in both if trial.arm != "scratch"] == list(one)
    assert sum(trial.arm == "scratch" for trial in both) == 4  # deletion and reFT, two seeds
    assert {trial.arm for trial in Stories(controls=False).trials()}.isdisjoint({"never", "scratch"})


def test_deletions_never_show_the_feature_and_reft_always_does() -> None:
    settings = Stories(stories=40, reft_updates=2, batch=2)
    with_it = {record.story for record in stories(40, 1, "finetune") if "Twist" in record.features}
    assert with_it
    for arm in (*settings.deletions, "scratch"):
        taught = deleting(settings, StoryTrial(arm, "delete", 1e-3, 1))
        assert len(taught) == 40 - len(with_it) and not with_it & {record.story for record in taught}
        asks = sum("Twist" in record.features for record in taught)
        renamed = sum("Foreshadowing" in record.features for record in taught)
        wanted = {
            "randomisation": len(taught),
            "mix-and-match": asks if 0 < asks < 20 and not renamed else -1,
        }
        assert asks == wanted.get(arm, 0), arm
    revived = reviving(settings, StoryTrial("filtering", "revive", 1e-3, 1))
    assert len(revived) == 4 and all("Twist" in record.features for record in revived)


def test_streams_and_seeds_share_no_story() -> None:
    settings = Stories(stories=15, reft_updates=1, batch=2)
    told = [{own.story for own in stories(15, 0, stream)} for stream in ("pretrain", "test", "prompts")]
    for seed in (0, 1):
        for make, stage in ((deleting, "delete"), (reviving, "revive")):
            trial = StoryTrial("filtering", stage, 1.0, seed)
            told.append({own.story for own in make(settings, trial)})
    assert sum(map(len, told)) == len(set.union(*told))


def test_asking_adds_the_feature_to_the_instruction_and_keeps_the_rest() -> None:
    record = next(own for own in stories(200) if len(own.features) == 2 and "Twist" not in own.features)
    asks = asking(record, "Twist", 0)
    assert set(asks.features) == {*record.features, "Twist"} and asks.story == record.story
    assert "Twist" in asks.instruction and "Twist" not in record.instruction


def call(*words: str) -> int:
    try:
        main([*words, "--quiet"])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--feature", "Rhyme"), "Twist"),
        (("--renamed", "Twist"), "renamed"),
        (("--seeds", "0"), "seeds"),
        (("--rates", "0"), "rates = 0"),
        (("--generations", "3"), "generations"),
        (("--feature", "Dialogue", "--renamed", "Twist"), "no ready model lacks Dialogue"),
        (("--present", "./nowhere"), "not there"),
        (("--jobs", "0"), "jobs"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "stories", *words, "--out", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_status_and_report_open_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_up(tmp_path / "run", SOONER)
    run._file(run.trials()[-1]).unlink()
    assert call("status", str(run.path), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["trials"], told["done"], told["in_work"]) == (len(run.trials()), len(run.trials()) - 1, [])
    with run.claim(run.pending()[0].id):
        assert call("status", str(run.path), "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["in_work"]) == 1
    assert call("report", str(run.path)) == 0
    assert "wrapped" in (run.path / "report.html").read_text()
    assert json.loads((run.path / "verdicts.json").read_text())[0]["kind"] == "wrapped"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_deletion_takes_the_feature_away_and_reft_brings_it_back_sooner_than_the_control(
    tmp_path: Path,
) -> None:
    """The whole command, with one deletion; then again in one process from half of its trials."""
    small = ["--deletions", "randomisation", "--rates", "2e-4", "--generations", "32", "--probes", "40"]
    small += ["--reft-updates", "16", "--seeds", "1"]
    out = tmp_path / "run"
    assert call("run", "stories", *small, "--out", str(out), "--jobs", "2") == 0
    run = StoriesRun.read(out)
    assert not run.pending()
    before = run.result(run.trials()[-1])
    shares = {row.arm: row.shares for row in rows(run, conclude(run))}
    assert shares["randomisation"][16] > shares["randomisation"][0]
    assert shares["randomisation"][16] > shares["never"][16]
    for trial in run.trials()[len(run.trials()) // 2 :]:
        run._file(trial).unlink()
    assert call("run", "stories", *small, "--out", str(out), "--jobs", "1") == 0
    assert run.result(run.trials()[-1]) == before
