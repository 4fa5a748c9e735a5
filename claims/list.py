"""The twelve claims of Jain et al. 2024 that this project checks, each with its rule, stated before looking.

A claim has a statement, the place in the paper, the runs that can answer it, and a function from a run's
numbers to inequalities (``veneer.claims.rules``). ``evaluate`` holds finished runs against all of them.
Claims that the paper makes of written and of learned capabilities have a row for each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from veneer.claims import rules
from veneer.claims import rules_inside as inside
from veneer.claims.evidence import Finding, Measured, NotAnalysed, Outcome, View, judge
from veneer.tasks.errors import InputError

COMPILED_SEEDS, LEARNED_SEEDS = 5, 3
"""Fewest seeds for an answer. Noise, data and from-scratch weights differ between seeds; all seeds of a
learned capability share its pretrained weights, which only pretraining with other seeds would vary."""
OUTCOMES: dict[Outcome, str] = {
    "replicated": "every inequality's interval lies beyond its threshold",
    "not replicated": "an interval lies wholly on the other side",
    "undecidable at this size": "an interval straddles its threshold, or seeds or settings are too few",
    "no run": "no run that was given can answer",
}


@dataclass(frozen=True)
class Command:
    """A run that answers claims.

    Attributes:
        words: of ``veneer run``, without the folder.
        analyses: of ``veneer analyse``, that the claims read.
    """

    words: tuple[str, ...]
    analyses: tuple[str, ...] = ()

    def line(self, folder: str) -> str:
        """The commands to type, for a folder."""
        run = f"veneer run {' '.join(self.words)} --out {folder}"
        analyse = f"veneer analyse {folder} --only {' '.join(self.analyses)}"
        return f"{run} && {analyse}" if self.analyses else run


def _command(words: str, *analyses: str) -> Command:
    return Command(tuple(words.split()), analyses)


COMMANDS: dict[str, Command] = {
    "counter": _command("counter --seeds 5 --constructed", "pruning", "attention"),
    "max-identifier": _command(
        "max-identifier --seeds 5 --learning-rates 1e-2 1e-3 1e-4 --reft-rates --no-controls", "attention"
    ),
    "pcfg-counter": _command("pcfg-counter --seeds 3", "pruning", "probes"),
    "rand-ft": _command("pcfg-counter --seeds 3 --rand-ft 0.5 --pretrained M --c-tr 0 1 --no-controls"),
    "jailbreak": _command(
        "pcfg-counter --seeds 3 --pretrained jailbreak --task-token T_NJ --c-tr 0 --reft-rates --no-controls",
        "jailbreak",
    ),
    "pretraining": _command("pcfg-counter --seeds 3 --pretrained M-early M --reft-rates --no-controls"),
}
"""The runs, by the name of their folder."""


@dataclass(frozen=True)
class Needs:
    """A run that a claim needs.

    Attributes:
        command: which of ``COMMANDS`` makes it.
        words: what its fields must be, in words.
        fits: whether a run has them.
    """

    command: str
    words: str
    fits: Callable[[View], bool]


@dataclass(frozen=True)
class Claim:
    """One claim and how it is judged.

    Attributes:
        number: the protocols' number, with a for written and b for learned capabilities.
        statement: what the paper says.
        place: where it says so; the paper's number, if there is one, is from the table named there.
        needs: the runs to measure, in the order in which ``measure`` takes them.
        rule: what is compared with which threshold, in words.
        seeds: fewest seeds.
        measure: the inequalities, from those runs.
    """

    number: str
    statement: str
    place: str
    needs: tuple[Needs, ...]
    rule: str
    seeds: int
    measure: Callable[..., Measured]


def _points(share: float) -> str:
    return f"{100 * share:.0f} points"


def _plain(view: View, name: str) -> bool:
    """Whether a run is of an experiment as it is, without another method, mixture, token or randFT."""
    fields = view.fields
    usual = fields["method"] == "full" and not fields["share_pretraining"]
    return view.name == name and usual and not fields.get("rand_ft") and fields.get("task_token") is None


def _several_priors(view: View) -> bool:
    return len({view.prior(name) for name in view.capabilities}) > 1


def _with_reft(needs: Needs, controls: bool = False) -> Needs:
    """The same with reFT, and with models from scratch beside it."""

    def fits(view: View) -> bool:
        trained = bool(view.fields["reft_rates"]) and (view.fields["controls"] or not controls)
        return trained and needs.fits(view)

    return Needs(needs.command, f"{needs.words}, with reFT{' and controls' if controls else ''}", fits)


_COUNTER = Needs(
    "counter", "experiment counter with C_Tr of 1", lambda v: _plain(v, "counter") and 1 in v.fields["c_tr"]
)
_MAX = Needs("max-identifier", "experiment max-identifier", lambda v: _plain(v, "max-identifier"))
_PCFG = Needs(
    "pcfg-counter",
    "experiment pcfg-counter with C_Tr of 1 and several priors",
    lambda v: _plain(v, "pcfg-counter") and 1 in v.fields["c_tr"] and _several_priors(v),
)
_ORDINARY = Needs("pcfg-counter", "experiment pcfg-counter", lambda v: _plain(v, "pcfg-counter"))
_LENGTHS = Needs(
    "pretraining",
    "experiment pcfg-counter with two lengths of pretraining of one prior",
    lambda v: _plain(v, "pcfg-counter") and rules.lengths(v) is not None,
)
_RAND_FT = Needs(
    "rand-ft",
    "experiment pcfg-counter with rand_ft above 0",
    lambda v: v.name == "pcfg-counter" and v.fields["rand_ft"] > 0,
)
_JAILBREAK = Needs(
    "jailbreak",
    "experiment pcfg-counter with a task_token, of a model with several for counting",
    lambda v: v.name == "pcfg-counter" and v.fields["task_token"] is not None,
)
_SHORTCUT = (
    "with C_Tr = 1 the fine-tuned model is right on correlated texts and wrong on others, at every rate"
)
_SPEED = "reFT needs several times fewer updates than Scr. + FT"
_PRUNING = "raises O_PT accuracy and lowers that of O_FT, when C_Tr = 1 and the rate is small"
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "1a",
        f"Counter: {_SHORTCUT}",
        "Tab. 3",
        (_COUNTER,),
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
        (_PCFG,),
        "As 1a, of the capability with the lowest prior of O_FT. Claim 8 asks what higher priors do.",
        LEARNED_SEEDS,
        rules.shortcut_learned,
    ),
    Claim(
        "2",
        "Counter: at 1e-1 and 1e-2 with C_Tr up to 0.8 the task is really learned; at 1e-3 and 1e-4 only the "
        "shortcut is",
        "Tab. 3",
        (_COUNTER,),
        f"For each C_Tr up to {rules.LITTLE_CORRELATED}: in each seed the least O_FT accuracy at C_Te = 0 of "
        f"the large rates less the greatest of the small ones is above {_points(rules.RATES_GAP)}. "
        "And where small rates learned anything with C_Tr of 0.5 or more, accuracy at C_Te = 1 less that at "
        f"C_Te = 0 is above {_points(rules.SHORTCUT_GAP)}.",
        COMPILED_SEEDS,
        rules.rates_compiled,
    ),
    Claim(
        "3",
        "Counter: after η_M or smaller, reFT at a very small rate brings O_PT back; after η_L it does not",
        "Fig. 39, 43",
        (_with_reft(_COUNTER),),
        "At the smallest reFT rate of the run and each C_Tr: in each seed the least O_PT skill (0 is "
        "guessing, 1 always right, clipped) after η_M or smaller, less the greatest after η_L, is above "
        f"{rules.REVIVED_APART}. Only fine-tunings that taught O_FT and took O_PT away count.",
        COMPILED_SEEDS,
        rules.revival_compiled,
    ),
    Claim(
        "4a",
        f"Counter: {_SPEED}",
        "Fig. 9, 26, 27",
        (_with_reft(_COUNTER, controls=True),),
        f"With C_Tr = 1, after every rate of η_M or smaller at which O_FT was learned and O_PT lost: the "
        f"ratio of updates to {rules.TARGET:.0%} of O_PT, Scr. + FT to reFT at the same rate (the greatest "
        f"one not above fine-tuning's), is above {rules.SEVERAL:g}. A control that never gets there gives a "
        "lower bound.",
        COMPILED_SEEDS,
        rules.speed,
    ),
    Claim(
        "4b",
        f"Learned counting: {_SPEED}",
        "Fig. 9, 26, 27",
        (_with_reft(_PCFG, controls=True),),
        "As 4a, for every capability.",
        LEARNED_SEEDS,
        rules.speed,
    ),
    Claim(
        "5a",
        f"Counter: pruning a few weights {_PRUNING}",
        "Fig. 7",
        (_COUNTER,),
        "With C_Tr = 1 and 1e-3 or smaller, where O_FT was learned and O_PT lost: of up to 20 weights by "
        "saliency the K that is best on natural texts adds, on uncorrelated texts, more than "
        f"{_points(inside.PRUNING_GAIN)} of O_PT beyond what random pruning adds whose K was chosen "
        f"alike; it costs O_FT more than {_points(inside.PRUNING_LOSS)} on correlated texts; and the "
        f"predicted classes lie nearer to the right answers than {inside.COLLAPSE} of the distance (total "
        "variation) of always giving the commonest.",
        COMPILED_SEEDS,
        inside.pruning_compiled,
    ),
    Claim(
        "5b",
        f"Learned counting: pruning 5 to 15 neurons {_PRUNING}",
        "Fig. 55 to 58",
        (_PCFG,),
        "As 5a with 5 to 15 neurons, for every capability at η_M and smaller, and more than "
        f"{_points(inside.PRUNING_GAIN_LEARNED)} of O_PT.",
        LEARNED_SEEDS,
        inside.pruning_learned,
    ),
    Claim(
        "6",
        "A linear probe still reads O_PT's answer after fine-tuning, except at η_M and above with a weakly "
        "relevant capability",
        "Fig. 8, 90",
        (_PCFG,),
        "The best layer's selectivity (accuracy less that on permuted labels) over that of a model from "
        f"scratch keeps more than {inside.PROBE_KEPT} of what the pretrained model has over it, at every "
        "prior and rate (mean over C_Tr), but for the lowest prior at η_M and above, where less is kept than "
        f"elsewhere. Pretraining must add {_points(inside.PROBE_ADDS)} for this to be asked.",
        LEARNED_SEEDS,
        inside.probes,
    ),
    Claim(
        "7",
        "Counter: attention stays on O_PT's tokens after small rates or C_Tr = 1, and moves to O_FT's only "
        "with a large rate and C_Tr = 0",
        "Fig. 10, 48",
        (_COUNTER,),
        "In the head of the capability that looks most at O_PT's tokens: after 1e-3 or less, and after any "
        f"rate with C_Tr = 1, their share is above {inside.KEPT} of the capability's own; after 1e-2 or more "
        "with C_Tr = 0, where O_FT was learned, the share of O_FT's tokens is greater than that of O_PT's.",
        COMPILED_SEEDS,
        inside.attention,
    ),
    Claim(
        "8",
        "The higher the prior of O_FT in pretraining, the better fine-tuning resists the shortcut and the "
        "less O_PT accuracy falls",
        "Fig. 5, 6; Tab. 5",
        (_PCFG,),
        "Highest less lowest prior, mean over the rates and the C_Tr of 0.8 or more that both learned: O_FT "
        f"accuracy at C_Te = 0 is more than {_points(rules.PRIOR_MARGIN)} higher, and O_PT accuracy "
        f"at C_Te = 0 falls by {_points(rules.PRIOR_MARGIN)} less.",
        LEARNED_SEEDS,
        rules.priors,
    ),
    Claim(
        "9",
        "More pretraining leaves a capability that is harder to lose",
        "Fig. 68 to 75",
        (_LENGTHS,),
        "Of two models with the same prior and size, the one with most updates of pretraining less the one "
        "with least, mean over all rates and C_Tr that both learned: O_PT accuracy at C_Te = 0 falls by more "
        f"than {_points(rules.RETAINED_MARGIN)} less. Both must have O_PT (half of skill) to begin "
        "with.",
        LEARNED_SEEDS,
        rules.pretraining,
    ),
    Claim(
        "10",
        "Jailbreak tokens still reach the capability when the prior was high",
        "Fig. 24",
        (_JAILBREAK,),
        "Mean over the settings in which O_FT was learned and O_PT lost through fine-tuning's own token: "
        f"O_PT skill on natural texts through the worst other token is above {rules.REACHED_SKILL}, and "
        "above that through fine-tuning's.",
        LEARNED_SEEDS,
        rules.jailbreak,
    ),
    Claim(
        "11",
        "randFT models are revived about as fast as ordinary ones",
        "Fig. 28, 29",
        (_with_reft(_RAND_FT), _with_reft(_ORDINARY)),
        f"The ratio of reFT's updates to {rules.TARGET:.0%} of O_PT, after randFT to after ordinary "
        "fine-tuning of the same model, rate and C_Tr, geometric mean over the settings that both lost and "
        f"the ordinary one got back in every seed, lies within {rules.ABOUT_AS_FAST[0]:g} and "
        f"{rules.ABOUT_AS_FAST[1]:g}.",
        LEARNED_SEEDS,
        rules.rand_ft,
    ),
    Claim(
        "12",
        "Max-identifier: rates of 1e-3 and above distort block 0's sorting; 1e-4 keeps it and re-aims block "
        "2",
        "Fig. 44, 52",
        (_MAX,),
        "Total variation between a block's attention and the capability's, mean over positions, at every "
        f"C_Tr: of block 0 above {inside.DISTORTED} at 1e-3 and above, and below it at 1e-4; of the last "
        "block, which aims from one position alone, at 1e-4 above that divided by the number of positions. "
        "At 1e-4 only fine-tunings that learned O_FT count.",
        COMPILED_SEEDS,
        inside.sorting,
    ),
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


def evaluate(claim: Claim, views: Sequence[View], folder: str = "runs/claims") -> Finding:
    """The answer that runs give to a claim.

    Of several runs that fit, the one with the most seeds is asked, then the one with the most
    capabilities, then the first given: never the one with the better answer.

    Args:
        claim: what to judge.
        views: finished runs.
        folder: where the commands that are offered put their runs.
    """
    chosen: list[View] = []
    for need in claim.needs:
        fitting = [view for view in views if _finished(view) and need.fits(view)]
        if not fitting:
            line = COMMANDS[need.command].line(f"{folder}/{need.command}")
            return Finding("no run", f"no run: needs a finished one of {need.words}: {line}")
        chosen.append(max(fitting, key=lambda view: (view.seeds, len(view.capabilities))))
    runs = tuple(view.path for view in chosen)
    try:
        return judge(claim.measure(*chosen), claim.seeds, runs)
    except NotAnalysed as missing:
        return Finding("no run", f"no run: {missing}", runs=runs)


def _finished(view: View) -> bool:
    """Whether there is a fine-tuned model to look at."""
    try:
        return not view.tuned.is_empty()
    except InputError:
        return False
