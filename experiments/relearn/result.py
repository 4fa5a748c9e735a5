"""What an evaluation comes to: tables as Parquet, the outcome as JSON, the page; and rows for a terminal."""

from statistics import mean

import polars as pl

from veneer.analysis.revival import Estimate
from veneer.experiments.relearn.evidence import Arm, Measured
from veneer.experiments.relearn.judge import UTILITY_LOSS, Outcome, judge, unchanged_weights
from veneer.experiments.relearn.settings import Lesson, Subject
from veneer.experiments.relearn.store import RelearningRun
from veneer.models.files import exists, write_json
from veneer.tasks.errors import InputError

ARMS: tuple[tuple[Subject, Lesson], ...] = (
    ("after", "taught"),
    ("never", "taught"),
    ("start", "taught"),
    ("wrapper", "taught"),
    ("after", "permuted"),
    ("after", "retain"),
    ("after", "unrelated"),
)
NAMES = {
    ("after", "taught"): "training on T",
    ("never", "taught"): "training on T",
    ("start", "taught"): "training on T",
    ("wrapper", "taught"): "training on T",
    ("after", "permuted"): "training on T with wrong answers",
    ("after", "retain"): "training on retain only",
    ("after", "unrelated"): "training on something else",
}


def conclude(run: RelearningRun, same: bool | None = None, utility_loss: float = UTILITY_LOSS) -> Outcome:
    """Judge what is there, and write tables and outcome.

    Args:
        run: the evaluation.
        same: whether both models are the same weights; None takes it from whether there was anything to try.
        utility_loss: loss of retain up to which an attack counts.

    Raises:
        InputError: ``before`` does not have the capability, or nothing has been measured.
    """
    if not exists(run.path / "trials") if same is None else same:
        outcome = unchanged_weights()
    else:
        measured = Measured(run)
        if measured.as_it_is("before") is None or measured.as_it_is("after") is None:
            raise InputError("run", str(run.path), "an evaluation whose first two trials are done")
        outcome = judge(measured, utility_loss)
        run.curves().write_parquet(run.path / "curves.parquet")
        measured.free.write_parquet(run.path / "free.parquet")
    write_json(run.path / "verdict.json", outcome.plain())
    return outcome


def rows(run: RelearningRun) -> list[list[str]]:
    """Every attack as a row: model, attack, skill on T, V and retain in percent, updates to half on V.

    Training has V with its interval over seeds, and a row for each recipe.
    """
    measured = Measured(run)
    if measured.as_it_is("before") is None or measured.as_it_is("after") is None:
        return []
    found = []
    for subject in run.settings.subjects:
        as_is = measured.as_it_is(subject)
        if as_is is not None:
            taught, held = (mean(measured.skill_as_it_is(subject, p).values()) for p in ("taught", "held"))
            retained = measured.retained(as_is.get("retain"))
            found.append([subject, "as it is", _percent(taught), _percent(held), _percent(retained), ""])
    for subject, lesson in ARMS:
        for recipe in measured.recipes(subject, lesson):
            arm = measured.arm(subject, lesson, recipe=recipe)
            if arm is not None:
                found.append(_arm_row(measured, arm))
    free = measured.free.filter(pl.col("kind") != "none")
    for named, group in free.group_by("subject", "attack", maintain_order=True):
        values = [group[part].mean() for part in ("taught", "held", "retain")]
        shown = [_percent(None if own is None else float(own)) for own in values]  # pyright: ignore[reportArgumentType]
        found.append([str(named[0]), str(named[1]), *shown, ""])
    return found


def _arm_row(measured: Measured, arm: Arm) -> list[str]:
    ends: list[Estimate] = []
    for part in ("taught", "held", "retain"):
        other = measured.arm(arm.subject, arm.lesson, part, arm.recipe)
        known = other is not None and not other.curves.is_empty()
        ends.append(other.end if other is not None and known else Estimate(None, None, None, 0))
    median = arm.median[0]
    when = f"> {measured.settings.updates}" if median is None else f"{median:.1f}"
    name = f"{NAMES[arm.subject, arm.lesson]}, {arm.recipe.name}"
    subject = "known wrapper" if arm.subject == "wrapper" else arm.subject
    taught, held, retain = ends
    return [subject, name, _percent(taught.value), _interval(held), _percent(retain.value), when]


def _interval(measured: Estimate) -> str:
    if measured.value is None or measured.low is None or measured.high is None:
        return _percent(measured.value)
    return f"{_percent(measured.value)} ({_percent(measured.low)} to {_percent(measured.high)})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"
