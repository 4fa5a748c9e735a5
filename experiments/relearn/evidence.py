"""What a relearning evaluation measured, on one scale, and what of it is looked at.

*Skill* is a score on a scale where not knowing is 0 and ``before`` is 1, by seed, as each seed divides the
questions anew. Recipes are ordered by what is taught (T) and reported on what is held out (V); each is held
against the controls' training by the same recipe. A missing measurement stays missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl

from veneer.analysis.evidence import HALF_SKILL
from veneer.analysis.revival import (
    Estimate,
    areas,
    bounds_of_ratio,
    difference,
    estimate,
    ratio_of_times,
    survival,
    threshold_times,
)
from veneer.experiments.relearn.settings import Lesson, Relearning, Subject, Trial
from veneer.experiments.relearn.store import RelearningRun
from veneer.language.metrics import guess, metric_of
from veneer.language.questions import Question, divide, read_questions
from veneer.tasks.errors import InputError

LEAST = 0.1
"""Least by which ``before`` must score above not knowing: of less, nothing can be said to be lost."""
RECIPE = ["rank", "rate"]
FREE = {
    "subject": pl.String,
    "attack": pl.String,
    "kind": pl.String,
    "brings_nothing": pl.Boolean,
    "seed": pl.Int64,
    "taught": pl.Float64,
    "held": pl.Float64,
    "retain": pl.Float64,
}
"""Columns of free.parquet: skill after each attack without training, by seed."""


@dataclass(frozen=True)
class Recipe:
    """A recipe that was selected: LoRA's rank (0 for all weights) and the rate."""

    rank: int
    rate: float

    @property
    def name(self) -> str:
        """In words."""
        return f"{f'LoRA of rank {self.rank}' if self.rank else 'full fine-tuning'} at {self.rate:g}"


class Measured:
    """The measurements of an evaluation, as far as they are there."""

    def __init__(self, run: RelearningRun) -> None:
        self.run, self.settings = run, run.settings
        self._as_they_are: dict[Subject, dict[str, Any] | None] = {}
        self._room: dict[tuple[int, str], float] = {}
        self._arms: dict[tuple[Subject, Lesson, str, Recipe | None], Arm | None] = {}

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """The questions of the capability."""
        return read_questions(Path(self.settings.data))

    @cached_property
    def parts(self) -> dict[int, dict[str, list[int]]]:
        """By seed, the places of what is taught and what is held out."""
        place = {own.prompt: i for i, own in enumerate(self.questions)}
        found = {}
        for seed in range(self.settings.seeds):
            sides = divide(self.questions, seed, self.settings.taught_share)
            named = zip(("taught", "held"), sides, strict=True)
            found[seed] = {name: [place[own.prompt] for own in side] for name, side in named}
        return found

    def as_it_is(self, subject: Subject) -> dict[str, Any] | None:
        """The scores of a subject before any attack; None if not measured yet."""
        if subject not in self._as_they_are:
            self._as_they_are[subject] = self.run.result(Trial(subject, None))
        return self._as_they_are[subject]

    @cached_property
    def guess(self) -> float:
        """The score of not knowing."""
        if self.settings.guess is not None:
            return self.settings.guess
        known = guess(self.questions, metric_of(self.settings.metric))
        before = self.as_it_is("before")
        if known is not None:
            return known
        if self.settings.metric == "log-probability" and before is not None:
            return float(before["wrong"])  # of other questions' answers
        return 0.0

    def level(self, scores: Sequence[float], seed: int, part: str) -> float:
        """Mean score on a part of the questions."""
        return mean(scores[i] for i in self.parts[seed][part])

    def skill(self, value: float, seed: int, part: str) -> float:
        """A score on the scale from not knowing to ``before``.

        Raises:
            InputError: ``before`` does not have the capability.
        """
        if (seed, part) not in self._room:
            before = self.as_it_is("before")
            assert before is not None
            self._room[seed, part] = self.level(before["scores"], seed, part) - self.guess
        room = self._room[seed, part]
        if room < LEAST:
            problem = f"it scores {room:.2f} above not knowing ({self.guess:.2f}) on the {part} part"
            raise InputError("before", self.settings.before, "a model that has the capability", problem)
        return (value - self.guess) / room

    def skill_as_it_is(self, subject: Subject, part: str) -> dict[int, float]:
        """By seed, the skill of a subject before any attack; empty if not measured yet."""
        found = self.as_it_is(subject)
        if found is None:
            return {}
        return {s: self.skill(self.level(found["scores"], s, part), s, part) for s in self.parts}

    @cached_property
    def retain_guess(self) -> float:
        """The score of not knowing on the retain set."""
        assert self.settings.retain is not None
        kept = read_questions(Path(self.settings.retain), "retain")[: self.settings.most]
        return guess(kept, metric_of(self.settings.metric)) or 0.0

    def retained(self, score: float | None) -> float | None:
        """A retain score on the scale from not knowing to ``before``; None where there is none."""
        before = self.as_it_is("before")
        if score is None or before is None or "retain" not in before or not self.settings.retain:
            return None
        room = before["retain"] - self.retain_guess
        if self.settings.metric == "log-probability":  # no scale that ends: the loss in nats
            return 1 + score - before["retain"]
        return (score - self.retain_guess) / room if room >= LEAST else None

    @cached_property
    def curves(self) -> pl.DataFrame:
        """All training, in skill: columns of ``CURVES``, ``value`` as skill (retain's as ``retained``)."""
        table = self.run.curves().filter(pl.col("questions") != "loss")
        values = [
            self.retained(row["value"])
            if row["questions"] == "retain"
            else self.skill(row["value"], row["seed"], row["questions"])
            for row in table.iter_rows(named=True)
        ]
        return table.with_columns(value=pl.Series(values, dtype=pl.Float64)).drop_nulls("value")

    def of(self, subject: Subject, lesson: Lesson, part: str) -> pl.DataFrame:
        """The curves of one arm on one set of questions."""
        return self.curves.filter(
            (pl.col("subject") == subject) & (pl.col("lesson") == lesson) & (pl.col("questions") == part)
        ).select(*RECIPE, "seed", "step", "value")

    def recipes(self, subject: Subject, lesson: Lesson = "taught") -> tuple[Recipe, ...]:
        """The recipes that ran to the end with every seed, those that teach fastest first.

        Fast is the greatest mean skill on T over log-updates.
        """
        curves = self.of(subject, lesson, "taught")
        whole = curves.group_by([*RECIPE, "seed"]).agg(last=pl.col("step").max(), n=pl.len())
        whole = whole.filter((pl.col("last") == self.settings.updates) & (pl.col("n") > 1))
        counted = whole.group_by(RECIPE).agg(seeds=pl.len()).filter(pl.col("seeds") == self.settings.seeds)
        if counted.is_empty():
            return ()
        kept = curves.join(counted.select(RECIPE), on=RECIPE, how="semi")
        ranked = areas(kept, RECIPE).group_by(RECIPE).agg(pl.col("area").mean())
        ranked = ranked.sort("area", "rank", "rate", descending=[True, False, False])
        return tuple(Recipe(*own) for own in ranked.select(RECIPE).iter_rows())

    def selected(self, subject: Subject, lesson: Lesson = "taught") -> Recipe | None:
        """The recipe that teaches fastest; None if none ran to the end."""
        return next(iter(self.recipes(subject, lesson)), None)

    def arm(
        self,
        subject: Subject,
        lesson: Lesson = "taught",
        part: str = "held",
        recipe: Recipe | None = None,
    ) -> "Arm | None":
        """One recipe's curves on a set of questions, those of the selected one if none is named.

        None if that training is not finished.
        """
        key = (subject, lesson, part, recipe)
        if key not in self._arms:
            self._arms[key] = self._arm(*key)
        return self._arms[key]

    def _arm(self, subject: Subject, lesson: Lesson, part: str, recipe: Recipe | None) -> "Arm | None":
        finished = self.recipes(subject, lesson)
        recipe = recipe or next(iter(finished), None)
        if recipe is None or recipe not in finished:
            return None
        chosen = (pl.col("rank") == recipe.rank) & (pl.col("rate") == recipe.rate)
        return Arm(subject, lesson, recipe, self.of(subject, lesson, part).filter(chosen).drop(RECIPE))

    @cached_property
    def free(self) -> pl.DataFrame:
        """The attacks without training (``FREE``)."""
        rows = []
        for trial in self.settings.trials():
            if trial.lesson is not None or (found := self.run.result(trial)) is None:
                continue
            if trial.attack is None and trial.subject not in ("before", "after"):
                continue
            name = "as it is" if trial.attack is None else trial.attack.name
            kind = "none" if trial.attack is None else trial.attack.kind
            nothing = trial.attack is None or trial.attack.brings_nothing
            for seed in self.parts if trial.seed is None else [trial.seed]:
                skills = [
                    self.skill(self.level(found["scores"], seed, part), seed, part)
                    for part in ("taught", "held")
                ]
                retained = self.retained(found.get("retain"))
                rows.append((trial.subject, name, kind, nothing, seed, *skills, retained))
        return pl.DataFrame(rows, schema=FREE, orient="row")


@dataclass(frozen=True)
class Arm:
    """One subject's training on one lesson with one recipe.

    Attributes:
        subject: whose model.
        lesson: what was taught.
        recipe: by which it was trained.
        curves: columns seed, step, value (skill).
    """

    subject: Subject
    lesson: Lesson
    recipe: Recipe
    curves: pl.DataFrame

    @cached_property
    def times(self) -> pl.DataFrame:
        """When each seed reaches half of ``before``'s skill (``revival.threshold_times``, ``shown``)."""
        return threshold_times(shown(self.curves), [], (HALF_SKILL,))

    @property
    def best(self) -> Estimate:
        """The most skill that two measurements in a row have shown."""
        return estimate(shown(self.curves).group_by("seed").agg(pl.col("value").max())["value"].to_list())

    @cached_property
    def median(self) -> tuple[float | None, float | None, float | None]:
        """Kaplan–Meier median of the updates to half of skill, and its interval; None: not in the budget."""
        row = survival(self.times.with_columns(arm=pl.lit(0)), ["arm"]).row(0, named=True)
        return row["median"], row["low"], row["high"]

    @property
    def reached(self) -> int:
        """Seeds that reached half of skill, and were not there at the start."""
        return int((self.times["reached"] & ~self.times["already"]).sum())

    @property
    def end(self) -> Estimate:
        """Skill at the end."""
        last = self.curves.filter(pl.col("step") == self.curves["step"].max())
        return estimate(last["value"].to_list())

    def area(self) -> dict[int, float]:
        """By seed, mean skill over log-updates."""
        return dict(areas(self.curves, []).select("seed", "area").iter_rows())

    def ratio(self, control: "Arm") -> Estimate:
        """How many times as many updates the control needs."""
        return ratio_of_times(self.times, control.times)

    def bounds(self, control: "Arm") -> tuple[tuple[float | None, float | None], float | None]:
        """Between which numbers the mean ratio lies, scatter aside; and this arm's own updates."""
        return bounds_of_ratio(self.times, control.times)

    def lead(self, control: "Arm") -> Estimate:
        """How far mean skill over log-updates lies above the control's."""
        return difference(self.area(), control.area())


def shown(curves: pl.DataFrame) -> pl.DataFrame:
    """Curves (seed, step, value) of the most skill so far that the measurement after it shows too.

    What training on T brought back on V was there, even if more training on T takes it away again: T stays at
    its best while a model forgets what it is not taught. One measurement alone could be chance.
    """
    ordered = curves.sort("seed", "step")
    following = pl.col("value").shift(-1).over("seed").fill_null(pl.col("value"))
    return ordered.with_columns(value=pl.min_horizontal("value", following).cum_max().over("seed"))


def seeds_of(settings: Relearning) -> str:
    """How many seeds, in words."""
    return f"{settings.seeds} seed{'' if settings.seeds == 1 else 's'}"
