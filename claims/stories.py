"""The rules of the claims that stories decide (Jain et al. 2024, App. F): deletion, reFT, probes, the judge.

Deletions are compared with the model that was pretrained on all stories, and reFT with that of the model that
never had the feature. Every threshold is a named constant with its reason.
"""

from dataclasses import asdict
from functools import cached_property
from statistics import mean
from typing import Any

import polars as pl

from veneer.analysis.binomial import wilson
from veneer.analysis.revival import Estimate, areas, difference
from veneer.claims.evidence import BySeed, Measured, Part, over_seeds
from veneer.claims.view import NotAnalysed
from veneer.experiments.paper import paper_twists
from veneer.experiments.stories.evidence import Measured as Stories
from veneer.experiments.stories.settings import NAMES, Arm
from veneer.experiments.stories.store import StoriesRun
from veneer.language.stories.features import FEATURES, has
from veneer.language.stories.generator import stories

NEAR_ZERO = 0.1
"""Share of stories that counts as near zero; the paper has 0 to 19 % after Randomisation."""
EARLY = 8
"""reFT is early up to its updates divided by this; the powers of two are measured."""
LEVEL = 0.1
"""Difference of shares that counts as caught up: four standard errors of 384 stories, three seeds of 128."""
PROBE_KEPT = 0.5
"""Share of what the pretrained model has over the control that "almost as well" asks to keep."""
PROBE_STILL = 0.02
"""Change of a probe's accuracy that counts as none: the paper calls 1.2 points negligible."""
LABELS_RIGHT = 0.92
"""How often the paper's classifier agrees with the labels."""
CHECKED = 300
"""Stories a seed on which the checker is held against the labels."""
PAPER_STORIES = 16
"""Stories behind each number of the paper's Table 1, by its code."""


class StoriesView:
    """A run of stories as claims ask for it."""

    name = "stories"

    def __init__(self, run: StoriesRun) -> None:
        self.run, self.path = run, str(run.path)
        self.fields: dict[str, Any] = asdict(run.settings)
        self.measured = Stories(run)

    @property
    def seeds(self) -> int:
        """Seeds that the run was asked for."""
        return self.run.settings.seeds

    @property
    def breadth(self) -> tuple[int, int, int]:
        """What tells the run to ask of several that have seeds enough: deletions, stories written, seeds."""
        return len(self.cells), self.run.settings.generations, self.seeds

    @property
    def finished(self) -> bool:
        """Whether there is a deletion to look at."""
        return any(not self.curve(*cell, "share").is_empty() for cell in self.cells)

    @cached_property
    def cells(self) -> list[tuple[Arm, float]]:
        """Every deletion with its rate."""
        own = self.run.settings
        return [(arm, rate) for rate in own.rates for arm in own.deletions]

    @cached_property
    def rates(self) -> tuple[float, float]:
        """The largest rate and the smallest.

        Raises:
            NotAnalysed: there is one only.
        """
        own = self.run.settings.rates
        if len(own) < 2:
            raise NotAnalysed(f"{self.path} has one rate: veneer run stories --rates 2e-3 2e-4")
        return max(own), min(own)

    def curve(self, arm: Arm, rate: float, measure: str) -> pl.DataFrame:
        """How an arm comes back: columns seed, step, value."""
        return self.measured.curve(arm, rate, measure)

    def at(self, cell: tuple[Arm, float], measure: str, step: int) -> BySeed:
        """A measure of an arm after so many updates of reFT, by seed."""
        own = self.curve(*cell, measure).filter(pl.col("step") == step)
        return dict(own.select("seed", "value").iter_rows())

    def before(self, measure: str) -> BySeed:
        """A measure of the pretrained model, the same for every seed."""
        found = self.measured.as_it_is("present", measure)
        if found is None:
            raise NotAnalysed(f"{self.path} is not finished: veneer run stories --out {self.path}")
        return dict.fromkeys(range(self.seeds), found)

    @property
    def never(self) -> tuple[Arm, float]:
        """The control: the model that never had the feature."""
        return "never", 0.0

    @property
    def last(self) -> int:
        """Updates of reFT."""
        return self.run.settings.reft_updates

    @property
    def early(self) -> int:
        """The last measurement of reFT that is early."""
        steps = self.run.settings.steps("revive")
        return max([step for step in steps if step * EARLY <= self.last], default=min(steps))

    def probes(self, arm: Arm, rate: float, feature: str) -> BySeed:
        """Accuracy of the probes for a feature, mean over what blocks give, by seed."""
        table = self.run.probes()
        own = table.filter(arm=arm, rate=rate, feature=feature).filter(pl.col("residual") > 0)
        if own.is_empty():
            raise NotAnalysed(f"{self.path} has no probes: veneer run stories --probes 500")
        means = own.group_by("seed").agg(pl.col("accuracy").mean()).iter_rows()
        found: BySeed = {seed: float(accuracy) for seed, accuracy in means}
        return found if rate else dict.fromkeys(range(self.seeds), mean(found.values()))


def _minus(one: BySeed, other: BySeed) -> Estimate:
    return over_seeds(lambda a, b: a - b, one, other)


def _named(cell: tuple[Arm, float]) -> str:
    return f"{NAMES[cell[0]]} at {cell[1]:g}"


def loss_rises(view: StoriesView) -> Measured:
    """Claim 14: deletion raises the loss on stories with the feature, more at the larger rate."""
    loss, parts = "loss_with", []
    large, small = view.rates
    for cell in view.cells:
        rise = _minus(view.at(cell, loss, 0), view.before(loss))
        parts.append(Part("rise of the loss", _named(cell), rise, above=0.0, unit="nats"))
    for arm in view.run.settings.deletions:
        more = _minus(view.at((arm, large), loss, 0), view.at((arm, small), loss, 0))
        parts.append(
            Part("rise at the larger rate less that at the smaller", NAMES[arm], more, above=0.0, unit="nats")
        )
    return Measured(parts, paper=0.793 - 0.766)


def behaviour_goes(view: StoriesView) -> Measured:
    """Claim 15: after a deletion hardly a story has the feature."""
    parts = []
    for cell in view.cells:
        left = over_seeds(float, view.at(cell, "share", 0))
        parts.append(Part("share of stories with it", _named(cell), left, below=NEAR_ZERO, unit="share"))
    return Measured(parts, paper=0.69)


def loss_falls(view: StoriesView) -> Measured:
    """Claim 16: reFT soon brings the loss down, and below where the control ends."""
    loss, parts = "loss_with", []
    control = view.at(view.never, loss, view.last)
    for cell in view.cells:
        below = _minus(view.at(cell, loss, view.last), control)
        parts.append(Part("loss at the end less the control's", _named(cell), below, below=0.0, unit="nats"))
        early = over_seeds(
            lambda start, now, end: (start - now) / (start - end),
            *(view.at(cell, loss, step) for step in (0, view.early, view.last)),
        )
        what = f"share of the fall within {view.early} of {view.last} updates"
        parts.append(Part(what, _named(cell), early, above=0.5, unit="share"))
    return Measured(parts, paper=0.753 - 0.768)


def returns_sooner(view: StoriesView) -> Measured:
    """Claim 17: reFT brings the share back in fewer updates than the control needs."""
    parts = []
    rival = _areas(view, view.never)
    for cell in view.cells:
        early = _minus(view.at(cell, "share", view.early), view.at(view.never, "share", view.early))
        parts.append(
            Part(f"share after {view.early} updates less the control's", _named(cell), early, above=0.0)
        )
        ahead = difference(_areas(view, cell), rival)
        parts.append(Part("mean share over log-updates less the control's", _named(cell), ahead, above=0.0))
    return Measured(parts, paper=0.44 - 0.31)


def _areas(view: StoriesView, cell: tuple[Arm, float]) -> BySeed:
    return dict(areas(view.curve(*cell, "share"), []).select("seed", "area").iter_rows())


def control_catches_up(view: StoriesView) -> Measured:
    """Claim 18: at the end the control has caught up in what it writes, not in loss."""
    parts = []
    for cell in view.cells:
        ends = (view.at(one, "share", view.last) for one in (cell, view.never))
        level = _minus(*ends)
        what = "share at the end less the control's"
        parts.append(Part(what, _named(cell), level, above=-LEVEL, below=LEVEL))
        behind = _minus(*(view.at(one, "loss_with", view.last) for one in (view.never, cell)))
        parts.append(Part("the control's loss at the end less", _named(cell), behind, above=0.0, unit="nats"))
    return Measured(parts, paper=0.94 - 0.81)


def probes_still_read_it(view: StoriesView) -> Measured:
    """Claim 19: a probe reads the feature nearly as before deletion, and better than from the control."""
    feature, parts = view.run.settings.feature, []
    large, small = view.rates
    whole, none = view.probes("present", 0.0, feature), view.probes("never", 0.0, feature)
    for arm, rate in view.cells:
        own = view.probes(arm, rate, feature)
        kept = over_seeds(lambda a, b, c: a - c - PROBE_KEPT * (b - c), own, whole, none)
        what = "accuracy over the control's, less half of the pretrained model's"
        parts.append(Part(what, _named((arm, rate)), kept, above=0.0))
        parts.append(Part("accuracy less the control's", _named((arm, rate)), _minus(own, none), above=0.0))
    for arm in view.run.settings.deletions:
        lost = _minus(view.probes(arm, small, feature), view.probes(arm, large, feature))
        parts.append(
            Part("accuracy at the smaller rate less that at the larger", NAMES[arm], lost, above=0.0)
        )
    return Measured(parts, paper=0.924 - 0.925)


def other_probes_stay(view: StoriesView) -> Measured:
    """Claim 20: probes for the other features do not move."""
    parts = []
    for arm, rate in view.cells:
        for feature in FEATURES:
            if feature != view.run.settings.feature:
                moved = _minus(view.probes(arm, rate, feature), view.probes("present", 0.0, feature))
                where = f"{feature}, {_named((arm, rate))}"
                parts.append(Part("change of accuracy", where, moved, above=-PROBE_STILL, below=PROBE_STILL))
    return Measured(parts)


def randomisation_is_like_the_others(view: StoriesView) -> Measured:
    """Claim 21: Randomisation deletes behaviour most; probes and reFT treat it like the others."""
    own, parts, feature = view.run.settings, [], view.run.settings.feature
    others: list[Arm] = [arm for arm in own.deletions if arm != "randomisation"]
    if len(others) == len(own.deletions) or not others:
        raise NotAnalysed(f"{view.path} lacks randomisation or another deletion: veneer run stories")
    for rate in own.rates:
        for arm in others:
            mine: tuple[Arm, float] = ("randomisation", rate)
            theirs: tuple[Arm, float] = (arm, rate)
            where = _named(theirs)
            less = _minus(view.at(theirs, "share", 0), view.at(mine, "share", 0))
            parts.append(Part("another deletion's share less Randomisation's", where, less, above=0.0))
            end = _minus(*(view.at(one, "share", view.last) for one in (mine, theirs)))
            parts.append(Part("share after reFT, less the other's", where, end, above=-LEVEL, below=LEVEL))
            read = _minus(*(view.probes(*one, feature) for one in (mine, theirs)))
            parts.append(Part("probe, less the other's", where, read, above=-PROBE_STILL, below=PROBE_STILL))
    return Measured(parts, paper=0.44 - 0.12)


def judge_is_right(view: StoriesView) -> Measured:
    """Claim 22: how often what decides on a story agrees with its label; here a program decides."""
    feature = view.run.settings.feature
    found: BySeed = {}
    for seed in range(view.seeds):
        drawn = list(stories(CHECKED, seed, "judge"))
        found[seed] = mean((feature in own.features) == has(feature, own.story) for own in drawn)
    right = over_seeds(float, found)
    return Measured([Part("agreement", "", right, above=LABELS_RIGHT, unit="share")], paper=LABELS_RIGHT)


def enough_stories(view: StoriesView) -> Measured:
    """Claim 23, ours: which differences from the control, early in reFT, exceed the binomial error."""
    texts, rival = view.run.settings.generations, view.at(view.never, "share", view.early)
    found: BySeed = {}
    for seed in rival:
        apart = []
        for cell in view.cells:
            own = view.at(cell, "share", view.early).get(seed)
            if own is not None:
                apart.append(_apart(round(own * texts), round(rival[seed] * texts), texts))
        if apart:
            found[seed] = mean(apart)
    table = paper_twists().filter(iteration=30).with_columns(hits=(PAPER_STORIES * pl.col("share")).round())
    control = int(table.filter(arm="never")["hits"][0])
    counts = table.filter(pl.col("arm") != "never")["hits"].to_list()
    theirs = [_apart(int(hits), control, PAPER_STORIES) for hits in counts]
    part = Part(
        "share of the deletions told from the control", "", over_seeds(float, found), above=0.5, unit="share"
    )
    counted = f"{sum(theirs)} of {len(theirs)} are, with {PAPER_STORIES} stories each"
    note = f"in Table 1 after 30 iterations {counted}"
    return Measured([part], [note], mean(theirs))


def _apart(hits: int, other: int, texts: int) -> bool:
    """Whether Wilson's intervals of two counts do not meet."""
    (low, high), (least, most) = wilson(hits, texts), wilson(other, texts)
    return low > most or least > high
