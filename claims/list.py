"""The claims of Jain, Zhao and Lin (2024) that this project checks, each with its rule.

A claim has a statement, the place in the paper, the runs that can answer it, and a function from a run's
numbers to inequalities (the modules ``rules``). ``evaluate`` holds finished runs against all of them.
Claims that the paper makes of written and of learned capabilities have a row for each. A rule that was
changed says when and why; it was changed before the runs that it judges were looked at.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from veneer.claims import rules
from veneer.claims import rules_inside as inside
from veneer.claims import rules_learned as learned
from veneer.claims.cddm import DecisionsView
from veneer.claims.claim import Claim
from veneer.claims.evidence import Finding, Measured, Outcome, judge
from veneer.claims.layers import LayersView
from veneer.claims.list_cddm import DECISION_CLAIMS
from veneer.claims.list_layers import LAYER_CLAIMS
from veneer.claims.list_stories import STORY_CLAIMS
from veneer.claims.more import commands as more_seeds_where_open
from veneer.claims.needs import (
    COMMANDS,
    COUNTER,
    JAILBREAK,
    LENGTHS,
    LONG_REFT,
    MAX,
    ORDINARY,
    PCFG,
    RAND_FT,
    SHOWING_REFT,
    WHOLE,
    with_reft,
)
from veneer.claims.stories import StoriesView
from veneer.claims.view import NotAnalysed, View
from veneer.tasks.errors import InputError

COMPILED_SEEDS, LEARNED_SEEDS = 3, 3
"""Fewest seeds for an answer, as for a verdict: the interval of three is wide by itself. All seeds of a
learned capability share its pretrained weights, but for those of claim 9."""
AnyView = View | StoriesView | LayersView | DecisionsView
OUTCOMES: dict[Outcome, str] = {
    "replicated": "every inequality's interval lies beyond its threshold",
    "not replicated": "an interval lies wholly on the other side",
    "undecidable at this size": "an interval straddles its threshold, or seeds or settings are too few",
    "no run": "no run that was given can answer",
}


def _points(share: float) -> str:
    return f"{100 * share:.0f} points"


_SHORTCUT = (
    "with C_Tr = 1 the fine-tuned model is right on correlated texts and wrong on others, at every rate"
)
_PRUNING = "raises O_PT accuracy and lowers that of O_FT, when C_Tr = 1 and the rate is small"
_DATE = "2026-11-26"
_LONGER = (
    f"2026-11-27: of {SHOWING_REFT:,} updates of reFT or more (first: 1,500 at 1e-2 and 1e-3), because 1,500 "
    "bring 13 of 20 known wrappers back at 1e-3 and 3 at 1e-2. The run of 4,000 that judges now had been "
    "looked at: by it claim 3 is no longer refuted."
)
_WIDE = "texts are natural ones; on the wide grid no capability had O_PT at C_Te = 0 before fine-tuning"
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "1a",
        f"Counter: {_SHORTCUT}",
        "Tab. 3",
        (COUNTER,),
        "With C_Tr = 1, O_FT accuracy at C_Te = 1 less that at C_Te = 0 is above "
        f"{_points(rules.SHORTCUT_GAP)} at every rate at which fine-tuning was learned (half of skill on "
        "correlated texts).",
        COMPILED_SEEDS,
        rules.shortcut_compiled,
    ),
    Claim(
        "1b",
        f"Learned counting, O_FT seldom asked for in pretraining: {_SHORTCUT}",
        "Tab. 5",
        (PCFG,),
        "As 1a, of the capability with the lowest prior of O_FT. High priors resist (claim 8).",
        LEARNED_SEEDS,
        rules.shortcut_learned,
        f"{_DATE}: {_WIDE}.",
    ),
    Claim(
        "2",
        "Counter: at 1e-1 and 1e-2 with C_Tr up to 0.8 the task is really learned; at 1e-3 and 1e-4 only the "
        "shortcut is, from C_Tr = 0.5 up, and nothing at 0 and 0.2",
        "Tab. 3",
        (COUNTER,),
        f"For each C_Tr up to {rules.LITTLE_CORRELATED}: O_FT skill (0 is guessing, 1 always right) at C_Te "
        f"= 0 is above {rules.TAUGHT} after each large rate and below it after each small one. After small "
        f"rates, skill at C_Te = 1 is below {rules.TAUGHT} for a C_Tr under {rules.SHORTCUT_FROM}, and from "
        "there up, where anything was learned, accuracy at C_Te = 1 less that at C_Te = 0 is above "
        f"{_points(rules.SHORTCUT_GAP)}.",
        COMPILED_SEEDS,
        rules.rates_compiled,
        f"{_DATE}: skill instead of accuracy. A constant answer is right on up to 47 % of uncorrelated texts "
        "of 16 letters, so that the gap of 50 points between the rates, as first asked for, could hardly be "
        "had.",
    ),
    Claim(
        "3",
        "Counter, after η_M: reFT at 1e-3 or more brings O_PT back for every C_Tr; at 1e-4 it does for C_Tr "
        "= 0 and 1, and hardly for 0.2 to 0.6",
        "Tab. 4",
        (with_reft(COUNTER, "counter-reft", SHOWING_REFT),),
        "After every fine-tuning at η_M that taught O_FT and took O_PT away: O_PT skill after "
        f"{SHOWING_REFT:,} updates of reFT or more is above {rules.REVIVED} at the rates from 1e-3 up, and "
        "at 1e-4 above it for C_Tr of 0 and 1 and below it for 0.2 to 0.6 (in between the paper has part of "
        "it back). A reFT rate counts only if it brings a model back that is known to be wrapped "
        "(--constructed).",
        COMPILED_SEEDS,
        rules.revival_compiled,
        f"{_DATE}: asked of η_M alone and by reFT rate and C_Tr, as Tab. 4 has it (after η_L the paper shows "
        "attention only); and with known wrappers as a gate: a reFT that revives none of them says nothing. "
        f"{_LONGER}",
    ),
    Claim(
        "4a",
        "Counter: reFT needs several times fewer updates than Scr. + FT",
        "Fig. 9, 26, 27",
        (with_reft(COUNTER, "counter-reft", SHOWING_REFT, controls=True),),
        "With C_Tr = 1, after every rate of η_M or smaller at which O_FT was learned and O_PT lost: the "
        f"ratio of updates, Scr. + FT to reFT of {SHOWING_REFT:,} or more at the same rate (the greatest one "
        f"not above fine-tuning's), is above {rules.SEVERAL:g}. They are counted to {rules.TARGET:.0%} of "
        f"O_PT, or to 50% where neither arm gets to {rules.TARGET:.0%}. A control that never gets there "
        "gives a lower bound.",
        COMPILED_SEEDS,
        rules.speed,
        f"{_DATE}: to 50% where both arms are censored at {rules.TARGET:.0%}, which gave no ratio at all. "
        f"{_LONGER}",
    ),
    Claim(
        "4b",
        "Learned counting: reFT needs several times fewer updates than Scr. + FT, and fewer where O_FT was "
        "seldom asked for",
        "Fig. 9, 26",
        (with_reft(PCFG, "ordinary", LONG_REFT, controls=True),),
        f"As 4a, for every capability of a run with {LONG_REFT} updates of reFT; for that with the lowest "
        f"prior of O_FT the ratio is above {rules.SOONER:g}.",
        LEARNED_SEEDS,
        rules.speed,
        f"{_DATE}: the paper has 3,000 updates against 4,500 for a weakly relevant capability, which is 1.5 "
        f"times. 2026-11-27: with {LONG_REFT} updates of reFT, since within 100 the control does not get to "
        f"{rules.TARGET:.0%}.",
    ),
    Claim(
        "5a",
        f"Counter: zeroing a few weights {_PRUNING}",
        "Fig. 55, 57, 59",
        (COUNTER,),
        "With C_Tr = 1 and at η_M and η_S, where O_FT was learned and O_PT lost: the search for up to 5 "
        f"weights adds, on uncorrelated texts of its own, more than {_points(inside.PRUNING_GAIN)} of O_PT "
        "beyond what the same search adds to an operand that the model never had; it costs O_FT more than "
        f"{_points(inside.PRUNING_LOSS)} on correlated texts; and the predicted classes lie nearer to the "
        f"right answers than {inside.COLLAPSE} of the distance (total variation) of always giving the "
        "commonest.",
        COMPILED_SEEDS,
        inside.pruning_compiled,
        f"{_DATE}: asked at 1e-2 and 1e-3, the rates that the paper shows (first: 1e-3 and 1e-4), and of "
        "weights that were tried (first: ranked by weight × gradient, which a compiled circuit's own "
        "weights of size 1 and 100 lead, far outside the range in which that score holds).",
    ),
    Claim(
        "5b",
        f"Learned counting: zeroing few neurons {_PRUNING}",
        "Fig. 7, 79, 82",
        (PCFG,),
        "As 5a with up to 15 neurons, for the capability with the lowest prior of O_FT, and more than "
        f"{_points(inside.PRUNING_GAIN_LEARNED)} of O_PT.",
        LEARNED_SEEDS,
        inside.pruning_learned,
        f"{_DATE}: asked of the lowest prior, as the paper does, and of neurons that were tried; {_WIDE}.",
    ),
    Claim(
        "6",
        "A linear probe still reads O_PT's answer after fine-tuning, except at η_M and above with a weakly "
        "relevant capability",
        "Fig. 8, 90",
        (PCFG,),
        "The best layer's selectivity (accuracy less that on permuted labels) over that of a model from "
        f"scratch keeps more than {inside.PROBE_KEPT} of what the pretrained model has over it, at every "
        "prior and rate (mean over C_Tr), but for the lowest prior at η_M and above, where less is kept than "
        f"elsewhere. Pretraining must add {_points(inside.PROBE_ADDS)} for this to be asked.",
        LEARNED_SEEDS,
        inside.probes,
    ),
    Claim(
        "7",
        "Counter: after small rates or with C_Tr = 1 the model still looks at O_PT's tokens, after η_M with "
        "C_Tr = 0 at both, and at O_FT's alone only after η_L with C_Tr = 0",
        "Fig. 10, 40, 45, 48",
        (COUNTER,),
        "The share of answers that change when the keys of an operand's tokens are hidden, on natural "
        "texts, where O_FT was learned. After 1e-3 or less, and after any rate with C_Tr = 1, hiding O_PT's "
        f"changes more than hiding O_FT's, by more than {inside.USES}; after η_L with C_Tr = 0 the other way "
        f"round; after η_M with C_Tr = 0 hiding either changes more than {inside.USES}.",
        COMPILED_SEEDS,
        inside.attention,
        f"{_DATE}: what hiding keys changes, instead of shares of attention, and both operands after η_M. A "
        "block that averages all tokens alike counts a letter without looking at it more than at others.",
    ),
    Claim(
        "8",
        "The higher the prior of O_FT in pretraining, the better fine-tuning resists the shortcut and the "
        "less O_PT accuracy falls",
        "Fig. 5, 6; Tab. 5",
        (PCFG,),
        "Highest less lowest prior, mean over the rates and the C_Tr of 0.8 or more that both learned: O_FT "
        f"accuracy at C_Te = 0 is more than {_points(learned.PRIOR_MARGIN)} higher, and O_PT accuracy "
        f"at C_Te = 0 falls by {_points(learned.PRIOR_MARGIN)} less.",
        LEARNED_SEEDS,
        learned.priors,
        f"{_DATE}: {_WIDE}.",
    ),
    Claim(
        "9",
        "More pretraining leaves a capability that is harder to lose",
        "Tab. 5 against 6, 7 against 8",
        (LENGTHS,),
        "Of two models with the same prior and size, the one with most updates of pretraining less the one "
        "with least, mean over all rates and C_Tr that both learned: O_PT accuracy at C_Te = 0 falls by more "
        f"than {_points(learned.RETAINED_MARGIN)} less. Both must have O_PT (half of skill) to begin "
        "with.",
        LEARNED_SEEDS,
        learned.pretraining,
        f"{_DATE}: {_WIDE}. 2026-11-28: asked of runs in which each seed has its own pretraining, since that "
        "is what the claim is about; before, seeds shared one.",
    ),
    Claim(
        "10",
        "Jailbreak tokens still reach the capability when the prior was high",
        "Fig. 24",
        (JAILBREAK,),
        "Mean over the settings in which O_FT was learned and O_PT lost through fine-tuning's own token: "
        f"O_PT skill on natural texts through the worst other token is above {learned.REACHED_SKILL}, and "
        "above that through fine-tuning's.",
        LEARNED_SEEDS,
        learned.jailbreak,
        f"{_DATE}: asked at rates between 2e-4 and 8e-4: the first ones jumped from where T_NJ keeps O_PT to "
        "where every token has lost it. 2026-11-27: from 8e-4 to 3e-3, as on natural texts T_NJ keeps O_PT "
        "up to 8e-4 (95 %), so that nothing could be asked.",
    ),
    Claim(
        "11",
        "randFT models are revived about as fast as ordinary ones, and sooner than Scr. + FT",
        "Fig. 28, 29",
        (
            with_reft(RAND_FT, "rand-ft", LONG_REFT, controls=True),
            with_reft(ORDINARY, "ordinary", LONG_REFT),
        ),
        f"The ratio of reFT's updates to {rules.TARGET:.0%} of O_PT, after randFT to after ordinary "
        "fine-tuning of the same model, rate and C_Tr, geometric mean over the settings that both lost and "
        f"the ordinary one got back in every seed, lies within {learned.ABOUT_AS_FAST[0]:g} and "
        f"{learned.ABOUT_AS_FAST[1]:g}; and in each of these settings that of Scr. + FT to reFT after randFT "
        f"is above {rules.SOONER:g}.",
        LEARNED_SEEDS,
        learned.rand_ft,
        f"{_DATE}: the claim's other half was not asked for, and {LONG_REFT} updates of reFT are, since "
        "after 100 models after randFT are not back yet.",
    ),
    Claim(
        "12",
        "Max-identifier: rates of 1e-3 and above distort block 0's sorting; 1e-4 keeps it and re-aims block "
        "2",
        "Fig. 44, 52",
        (MAX,),
        "Total variation between a block's attention and the capability's, mean over positions, at every "
        f"C_Tr: of block 0 above {inside.DISTORTED} at 1e-3 and above, and below it at 1e-4; of the last "
        "block, which aims from one position alone, at 1e-4 above that divided by the number of positions. "
        "At 1e-4 only fine-tunings that learned O_FT count.",
        COMPILED_SEEDS,
        inside.sorting,
        "2026-11-27: asked of gradients clipped at 0.1 or less (first: at 1), before attention in such a run "
        "was looked at: with 1 nothing is learned at 1e-4, so that nothing could be asked. The paper does "
        "not say whether it clips.",
    ),
    Claim(
        "13",
        "Learned counting, O_FT often asked for: after η_L with C_Tr = 0 pruning up to 100 neurons partly "
        "brings O_PT back: an inhibitor was learned",
        "Fig. 86, 88",
        (WHOLE,),
        "For the capability with the highest prior of O_FT, at η_L with C_Tr = 0, where O_FT was learned "
        "and O_PT lost: of up to 100 neurons by saliency the K that is best on natural texts adds, on "
        f"uncorrelated texts, more than {_points(inside.PRUNING_GAIN_LEARNED)} of O_PT beyond what random "
        "pruning adds whose K was chosen alike, and the predicted classes lie nearer to the right answers "
        f"than {inside.COLLAPSE} of the distance of always giving the commonest. (That it is so mainly after "
        "long pretraining is not asked.)",
        LEARNED_SEEDS,
        inside.inhibitor,
        f"{_DATE}: added; it was missing from the list.",
    ),
    *STORY_CLAIMS,
    *LAYER_CLAIMS,
    *DECISION_CLAIMS,
)


def claims(numbers: Sequence[str] = ()) -> tuple[Claim, ...]:
    """All claims, or those with these numbers (1 stands for 1a and 1b).

    Raises:
        InputError: a number that no claim has.
    """
    known = [claim.number for claim in CLAIMS]
    for number in numbers:
        if number not in known and f"{number}a" not in known:
            raise InputError("only", number, ", ".join(known))
    return tuple(c for c in CLAIMS if not numbers or c.number in numbers or c.number.rstrip("ab") in numbers)


def evaluate(claim: Claim, views: Sequence[AnyView], folder: str = "runs/claims") -> Finding:
    """The answer that runs give to a claim.

    Of several runs that fit, one with the seeds that the claim asks for is asked; of these the one with the
    most settings, then with the most capabilities, then with the most seeds, then the first given: never the
    one with the better answer. Runs that are alike but for settings and seeds (``View.alike``) are read with
    it as one, in the order given: each setting has the seeds of all of them.

    Args:
        claim: what to judge.
        views: finished runs.
        folder: where the commands that are offered put their runs.
    """
    chosen: list[AnyView] = []
    for need in claim.needs:
        fitting = [view for view in views if view.finished and need.fits(view)]
        if not fitting:
            line = COMMANDS[need.command].line(f"{folder}/{need.command}")
            return Finding("no run", f"no run: needs a finished one of {need.words}: {line}")
        chosen.append(max(fitting, key=lambda view: (min(view.seeds, claim.seeds), view.breadth)))
    unread: dict[Path, str] = {}  # runs alike that lack what the claim reads
    while True:
        kept = [view for view in views if not isinstance(view, View) or view.run.path not in unread]
        whole = [with_alike(view, kept) for view in chosen]
        try:
            measured = claim.measure(*whole)
        except NotAnalysed as missing:
            others = [v.run.path for v in kept if isinstance(v, View) and v not in chosen]
            if missing.run not in others:
                return Finding("no run", f"no run: {missing}", runs=tuple(view.path for view in chosen))
            unread[missing.run] = f"seeds were left out: {missing}"
        else:
            whole = [_used(view, measured) for view in whole]
            runs = tuple(path for view in whole for path in _paths_of(view))
            more = [path for view in whole for path in _paths_of(view)[1:]]
            told = [f"with seeds of {', '.join(more)}"] if more else []
            notes = [*measured.notes, *told, *unread.values()]
            found = judge(replace(measured, notes=notes), claim.seeds, runs)
            more, minutes = _seeds_to_add(claim, whole, views, found)
            return replace(found, more=more, minutes=minutes)


def _seeds_to_add(
    claim: Claim, asked: Sequence[AnyView], views: Sequence[AnyView], found: Finding
) -> tuple[tuple[str, ...], int | None]:
    """The commands that add seeds where a claim is open, if one run is asked, and their minutes."""
    view = asked[0]
    if found.outcome != "undecidable at this size" or len(asked) > 1 or not isinstance(view, View):
        return (), None
    alike = [other.run for other in views if isinstance(other, View) and other.alike(view)]
    analyses = COMMANDS[claim.needs[0].command].analyses
    return more_seeds_where_open(view, alike, found.parts, claim.seeds, analyses)


def with_alike(view: AnyView, views: Sequence[AnyView]) -> AnyView:
    """A run, read as one with those of the others that are alike and have seeds of its settings to add."""
    if not isinstance(view, View):
        return view
    view.read.clear()  # what an earlier claim looked at
    others = [other for other in views if isinstance(other, View) and other is not view]
    whole = View(view.run, *(other.run for other in others if other.finished and view.alike(other)))
    adding = [run for run in whole.runs[1:] if whole.adds(run)]
    return View(view.run, *adding) if adding else view


def _used(view: AnyView, measured: Measured) -> AnyView:
    """A view with those runs alone whose seeds are in an inequality."""
    if not isinstance(view, View):
        return view
    settings = {part.setting for part in measured.parts}
    used = View(view.run, *(run for run in view.runs[1:] if view.adds(run, settings)))
    used.read, used.path = view.read, view.path
    return used


def _paths_of(view: AnyView) -> list[str]:
    """The folders that a view reads."""
    return [view.path, *(str(run.path) for run in view.runs[1:])] if isinstance(view, View) else [view.path]
