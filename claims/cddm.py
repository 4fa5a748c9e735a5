"""The rules of the claims of Lin (2024) on decisions that depend on a context, as far as the paper was read.

Written on 27 November 2026, before the runs that they judge. The paper says these things of GPT-2, in
pictures and without the numbers that we could read; each rule is one way to make a number of it. Whatever is
asked of the inside of an arm is asked of the seeds whose two trained arms decide equally well
(``experiments/cddm/evidence.py``); if these are too few, the claim is undecidable.
"""

from dataclasses import asdict
from typing import Any

from veneer.analysis.revival import Estimate, estimate
from veneer.claims.evidence import Measured, Part
from veneer.claims.view import NotAnalysed
from veneer.experiments.cddm.evidence import MATCHED, BySeed, less, over
from veneer.experiments.cddm.evidence import Measured as Decisions
from veneer.experiments.cddm.settings import Arm
from veneer.experiments.cddm.store import DecisionsRun
from veneer.experiments.cddm.work import HELD_OUT, WORDED

ABOVE_CHANCE = 0.75
"""Accuracy that counts as well above chance: what a model gets at most that does not read the context (right
where both features agree, guessing where they do not)."""
CHANCE = 0.1
"""How far from one half an accuracy may lie and still be chance: about twice the half width of 512."""
MIDDLE = 0.5
"""Depth halfway between the first block (0) and the last (1)."""
COARSE = 6
"""Blocks below which "later" and "first" are coarse words, which is said."""


class DecisionsView:
    """A run of decisions as claims ask for it."""

    name = "cddm"

    def __init__(self, run: DecisionsRun) -> None:
        self.run, self.path = run, str(run.path)
        self.fields: dict[str, Any] = asdict(run.settings)
        self.measured = Decisions(run)

    @property
    def seeds(self) -> int:
        """Seeds that the run was asked for."""
        return self.run.settings.seeds

    @property
    def breadth(self) -> tuple[int, int, int]:
        """What tells the run to ask of several that have seeds enough: wordings, decisions, seeds."""
        return len(self.run.settings.wordings), self.run.settings.looked, self.seeds

    @property
    def finished(self) -> bool:
        """Whether both arms have been looked into."""
        return bool(self.measured.seeds("fine-tuned") and self.measured.seeds("scratch"))

    @property
    def matched(self) -> list[int]:
        """Seeds whose two arms decide equally well."""
        return self.measured.matched()

    @property
    def notes(self) -> list[str]:
        """What a reader of a claim on insides must know besides."""
        found = []
        ends = [self.measured.accuracy(arm) for arm in ("fine-tuned", "scratch")]
        both = ends[0].keys() & ends[1].keys()
        if lacking := len(both) - len(self.matched):
            words = f"void for {lacking} of {len(both)} seeds"
            found.append(
                f"{words}, whose arms do not decide equally well (within {100 * MATCHED:.0f} points)"
            )
        if unfinished := self.seeds - len(both):
            found.append(f"{unfinished} of {self.seeds} seeds are not finished")
        ablated = self.measured.of("ablation", "fine-tuned")
        blocks = 0 if ablated.is_empty() else ablated["block"].n_unique()
        if 0 < blocks < COARSE:
            found.append(f"with {blocks} blocks, later and first are coarse")
        return found

    def before(self, asked: str) -> Estimate:
        """Accuracy of the model as it is; its interval is that of the decisions, as it has no seeds.

        Raises:
            NotAnalysed: it has not been looked into.
        """
        found = self.measured.accuracy("pretrained", asked)
        if not found:
            raise NotAnalysed(f"{self.path} is not finished: veneer run cddm --out {self.path}")
        return estimate([found[0]] * self.seeds, 0.0, 1.0, self.run.settings.looked)


def _difference(view: DecisionsView, one: BySeed, other: BySeed) -> Estimate:
    return less(one, other, view.matched)


def both_learn(view: DecisionsView) -> Measured:
    """Claim L1: both arms solve the task well above chance."""
    parts = []
    arms: tuple[tuple[Arm, str], ...] = (("fine-tuned", "fine-tuned"), ("scratch", "from scratch"))
    for arm, where in arms:
        right = over(view.measured.accuracy(arm, HELD_OUT))
        parts.append(Part("share right on held-out numbers", where, right, above=ABOVE_CHANCE, unit="share"))
    return Measured(parts)


def novel(view: DecisionsView) -> Measured:
    """Claim L2: the untouched pretrained model is at chance."""
    low, high = 0.5 - CHANCE, 0.5 + CHANCE
    parts = [
        Part("share right, untouched", where, view.before(asked), low, high, "share")
        for where, asked in (("taught wording", HELD_OUT), ("another wording", WORDED))
    ]
    note = "the interval is that of the decisions: a model that is not trained has no seeds"
    return Measured(parts, [note])


def later_layers(view: DecisionsView) -> Measured:
    """Claim L3: after fine-tuning, heads of later layers cost most."""
    depth = over(view.measured.depth("fine-tuned"), view.matched)
    part = Part("depth of what heads cost", "fine-tuned", depth, above=MIDDLE, unit="share")
    return Measured([part], [_mean_ablation(view, "fine-tuned"), *view.notes])


def first_layer(view: DecisionsView) -> Measured:
    """Claim L4: from scratch, heads of the first layer cost most; earlier ones than after fine-tuning."""
    depths = [view.measured.depth(arm) for arm in ("fine-tuned", "scratch")]
    parts = [
        Part(
            "depth of what heads cost",
            "from scratch",
            over(depths[1], view.matched),
            below=MIDDLE,
            unit="share",
        ),
        Part(
            "depth after fine-tuning less from scratch",
            "",
            _difference(view, *depths),
            above=0.0,
            unit="share",
        ),
    ]
    first = over(view.measured.first_share("scratch"), view.matched)
    share = "–" if first.value is None else f"{100 * first.value:.0f} %"
    note = f"the first block has {share} of what all its heads cost"
    return Measured(parts, [note, _mean_ablation(view, "scratch"), *view.notes])


def _mean_ablation(view: DecisionsView, arm: Arm) -> str:
    depth = over(view.measured.depth(arm, "mean"), view.matched)
    return "by mean ablation the depth is " + ("–" if depth.value is None else f"{depth.value:.2f}")


def generic_heads(view: DecisionsView) -> Measured:
    """Claim L5: heads that matter after fine-tuning are those that matter for ordinary texts before it."""
    tuned, scratch = (view.measured.shared_heads(arm) for arm in ("fine-tuned", "scratch"))
    parts = [
        Part("rank correlation over heads", "fine-tuned", over(tuned, view.matched), above=0.0, unit="share"),
        Part(
            "rank correlation less that from scratch",
            "",
            _difference(view, tuned, scratch),
            above=0.0,
            unit="share",
        ),
    ]
    return Measured(parts, [_language(view), *view.notes])


def _language(view: DecisionsView) -> str:
    ends = [over(view.measured.language(arm)).value for arm in ("pretrained", "shuffled", "scratch")]
    shown = [f"{own:.2f}" if own is not None else "–" for own in ends]
    return (
        f"the pretrained model's loss on ordinary texts is {shown[0]} nats a token (shuffled {shown[1]}, "
        f"from scratch {shown[2]})"
    )


def looks_at_numbers(view: DecisionsView) -> Measured:
    """Claim L6: from scratch, the first layer's head that costs most attends to the numbers."""
    relevant, irrelevant = (view.measured.looks_at("scratch", role) for role in ("relevant", "irrelevant"))
    both = {seed: relevant[seed] + irrelevant[seed] for seed in relevant.keys() & irrelevant.keys()}
    part = Part(
        "attention on numbers over an even share",
        "from scratch",
        over(both, view.matched),
        above=0.0,
        unit="share",
    )
    more = _difference(view, relevant, irrelevant)
    value = "–" if more.value is None else f"{more.value:+.2f}"
    note = f"on relevant numbers {value} more than on irrelevant ones"
    return Measured([part], [note, *view.notes])


def more_specific(view: DecisionsView) -> Measured:
    """Claim L7: what is trained from scratch is more specific to the task."""
    measured = view.measured
    units = _difference(view, measured.telling_units("scratch"), measured.telling_units("fine-tuned"))
    apart = _difference(view, measured.separation("scratch"), measured.separation("fine-tuned"))
    parts = [
        Part("units that tell a variable, from scratch less fine-tuned", "", units, above=0.0, unit="share"),
        Part("silhouette of variables, from scratch less fine-tuned", "", apart, above=0.0, unit="share"),
    ]
    mixed = _difference(view, measured.mixed("scratch"), measured.mixed("fine-tuned"))
    value = "–" if mixed.value is None else f"{100 * mixed.value:+.0f} points"
    return Measured(parts, [f"units that tell two variables or more: {value}", *view.notes])


def stays_close(view: DecisionsView) -> Measured:
    """Claim L8: a fine-tuned model stays close to the pretrained one, most clearly in later layers."""
    gaps = {}
    for later in (True, False):
        tuned, scratch = (view.measured.likeness(arm, later) for arm in ("fine-tuned", "scratch"))
        gaps[later] = {seed: tuned[seed] - scratch[seed] for seed in tuned.keys() & scratch.keys()}
    parts = [
        Part(
            "CKA with the pretrained model less that from scratch",
            "later half",
            over(gaps[True], view.matched),
            above=0.0,
            unit="share",
        ),
        Part(
            "that in the later half less in the earlier",
            "",
            _difference(view, gaps[True], gaps[False]),
            above=0.0,
            unit="share",
        ),
    ]
    return Measured(parts, [_language(view), *view.notes])
