"""What the curves of a run show by themselves, in plain words and a sentence for each setting.

Whether that is a wrapper needs more than curves: ``veneer.analysis.verdict`` says it.
"""

from dataclasses import dataclass, replace
from statistics import mean
from typing import Literal

import polars as pl

from veneer.experiments.named import reft_rates_after
from veneer.experiments.store import Run
from veneer.experiments.summary import REVIVED, capability_names, first_baselines, revivals
from veneer.models.display import table

MARGIN = 0.15  # a reFT that gains no more than this over guessing, or over its start, revived nothing
CourseKind = Literal[
    "came back",
    "did not come back",
    "came part of the way",
    "never left",
    "diverged",
    "not reFTed",
    "not finished",
]
"""What curves show, in plain words."""


@dataclass(frozen=True)
class Course:
    """What the reFT curves show for one capability, rate of fine-tuning and C_Tr.

    Attributes:
        capability: name of the capability.
        fine_tuning_rate: the rate.
        c_tr: share of correlated fine-tuning samples.
        kind: that in a few words.
        before: O_PT accuracy on natural text after fine-tuning, mean over the seeds that did not diverge;
            None before it is known.
        after: the same after the reFT that ends best; None without a reFT.
        reft_rate: that reFT's rate.
        updates_to_90: update from which on its mean holds 90 % (``analysis.revival.threshold_times``).
        majority: accuracy of always giving the commonest answer.
        seeds: seeds behind ``after``.
        agreeing: how many of them, taken alone, show the same.
        lowest: least accuracy after that reFT among the seeds.
        highest: greatest.
        diverged: cells that diverged, in words; no other field counts them.
    """

    capability: str
    fine_tuning_rate: float
    c_tr: float
    kind: CourseKind
    majority: float
    before: float | None = None
    after: float | None = None
    reft_rate: float | None = None
    updates_to_90: float | None = None
    seeds: int = 0
    agreeing: int = 0
    lowest: float | None = None
    highest: float | None = None
    diverged: tuple[str, ...] = ()

    @property
    def explanation(self) -> str:
        """The evidence, as a sentence, and what is left out of it."""
        if not self.diverged or self.kind == "diverged":
            return self._evidence
        return f"{self._evidence} Left out: {'; '.join(self.diverged)}."

    @property
    def _evidence(self) -> str:
        match self.kind:
            case "never left":
                return f"O_PT never left ({self.before:.0%} after fine-tuning)."
            case "came back":
                return (
                    f"O_PT came back from {self.before:.0%} to {self.after:.0%} with reFT at "
                    f"{self.reft_rate:g}, and held 90 % from update {self.updates_to_90:,.0f} on."
                )
            case "did not come back":
                return (
                    f"O_PT did not come back: reFT takes it from {self.before:.0%} to {self.after:.0%} at "
                    f"best; guessing gives {self.majority:.0%}."
                )
            case "came part of the way" if self.after is None:
                return "nothing can be said, as every reFT diverged."
            case "came part of the way":
                return f"O_PT came part of the way: from {self.before:.0%} to {self.after:.0%} at best."
            case "diverged":
                return f"{'; '.join(self.diverged)}. There was nothing to revive."
            case "not reFTed":
                return "not reFTed. Every reFT rate exceeds the rate of fine-tuning."
            case "not finished":
                return "not finished."

    @property
    def sentence(self) -> str:
        """The setting and its evidence."""
        model = "F" if self.capability == "compiled" else f"{self.capability}, f"
        setting = f"{model}ine-tuned at {self.fine_tuning_rate:g} with C_Tr = {self.c_tr:g}"
        return f"{setting}: {self.explanation}"

    def _repr_html_(self) -> str:
        return table(self.kind, [("setting and evidence", self.sentence), ("seeds", self.seeds)])


def classify(before: float, after: float, majority: float) -> CourseKind:
    """O_PT accuracies before and after reFT in words, given that of always guessing the same."""
    if before >= REVIVED:
        return "never left"
    if after >= REVIVED:
        return "came back"
    return "did not come back" if after <= max(before, majority) + MARGIN else "came part of the way"


def courses(run: Run) -> list[Course]:
    """What curves show of every rate of fine-tuning and C_Tr, finished or not, large rates first."""
    fields = run.experiment["fields"]
    settings = [
        (name, rate, c_tr)
        for name in capability_names(fields)
        for rate in sorted(fields["learning_rates"], reverse=True)
        for c_tr in sorted(fields["c_tr"])
    ]
    if not run.cells():
        return [Course(*setting, "not finished", majority=0.0) for setting in settings]
    majority = first_baselines(run)["natural"]["majority"]["pt"]
    accuracy = run.metrics().filter(
        (pl.col("measure") == "accuracy")
        & (pl.col("texts") == "natural")
        & (pl.col("operand") == "pt")
        & (pl.col("start") == "capability")
    )
    last = accuracy.filter(pl.col("step") == pl.col("step").max().over("cell"))
    back, found = revivals(run), []
    for name, rate, c_tr in settings:
        own = (pl.col("capability") == name) & (pl.col("fine_tuning_rate") == rate) & (pl.col("c_tr") == c_tr)
        planned = len(reft_rates_after(fields, rate))
        course = Course(name, rate, c_tr, "not finished", majority)
        found.append(_decided(course, last.filter(own), back.filter(own), planned, fields["seeds"]))
    return found


_STAGES = {"fine-tune": "fine-tuning", "reft": "reFT"}


def _decided(unknown: Course, last: pl.DataFrame, back: pl.DataFrame, reft_rates: int, seeds: int) -> Course:
    """The course of one setting from its cells' last accuracies and its mean reFTs."""
    first, reft = last.filter(pl.col("stage") == "fine-tune"), last.filter(pl.col("stage") == "reft")
    broken = last.filter(pl.col("status") != "done")
    diverged = tuple(
        f"{_STAGES.get(stage, stage)} at {rate:g}, seed {seed}, {status}"
        for stage, rate, seed, status in broken.select("stage", "learning_rate", "seed", "status").iter_rows()
    )
    known = replace(unknown, diverged=diverged)
    if first.is_empty():
        return known
    trained = first.filter(pl.col("status") == "done")
    if trained.is_empty():
        return replace(known, kind="diverged" if len(first) == seeds else "not finished")
    known = replace(known, before=mean(trained["value"].to_list()))
    if back.is_empty():
        return replace(known, kind="not finished" if reft_rates else "not reFTed")
    finished = len(first) == seeds and len(reft) == reft_rates * len(trained)
    alive = back.filter(pl.col("seeds") > 0)
    if alive.is_empty():
        return replace(known, kind="came part of the way" if finished else "not finished")
    best = alive.sort("after", descending=True).row(0, named=True)
    after = reft.filter((pl.col("learning_rate") == best["reft_rate"]) & (pl.col("status") == "done"))
    after = after.select("seed", after="value")
    pairs = trained.select("seed", before="value").join(after, on="seed").select("before", "after").rows()
    kind = classify(best["before"], best["after"], unknown.majority)
    return replace(
        known,
        kind=kind if finished or kind in ("came back", "never left") else "not finished",
        before=best["before"],
        after=best["after"],
        reft_rate=best["reft_rate"],
        updates_to_90=best["updates_to_90"],
        seeds=len(pairs),
        agreeing=sum(classify(start, end, unknown.majority) == kind for start, end in pairs),
        lowest=min(value for _, value in pairs),
        highest=max(value for _, value in pairs),
    )


def revival_sentences(run: Run) -> list[str]:
    """What the reFT curves show, one sentence for each C_Tr and rate of fine-tuning; none without reFT."""
    if not run.experiment["fields"]["reft_rates"]:
        return []
    return [course.sentence for course in courses(run)]
