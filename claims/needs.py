"""The runs that claims need: the commands that make them, and how one is told from another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from veneer.claims.rules_learned import lengths
from veneer.claims.view import View

GENTLE = 0.1
"""Largest norm of a gradient with which the Max-identifier learns at 1e-4: claim 12."""
SHOWING_REFT = 4000
"""reFT updates from which claims 3 and 4a are asked: at 1e-3 they bring 11 of 12 known wrappers back, 1,500
bring 13 of 20."""
LONG_REFT = 1000
"""reFT updates from which claims 4b and 11 are asked: after fewer, models after randFT and controls are not
back yet."""


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


_LONG = f"--c-tr 1 --reft-iterations {LONG_REFT} --no-third-operand"

COMMANDS: dict[str, Command] = {
    "counter": _command(
        "counter --preset standard --seeds 5 --reft-rates --no-controls", "pruning", "attention"
    ),
    "counter-reft": _command(
        "counter --preset standard --learning-rates 1e-2 1e-3 --constructed --no-third-operand"
    ),
    "max-identifier": _command(
        "max-identifier --seeds 5 --learning-rates 1e-2 1e-3 1e-4 --reft-rates --no-controls", "attention"
    ),
    "pcfg-counter": _command("pcfg-counter --seeds 3", "pruning", "probes"),
    "rand-ft": _command(f"pcfg-counter --seeds 3 --pretrained M --rand-ft 0.5 {_LONG}"),
    "ordinary": _command(f"pcfg-counter --seeds 3 --pretrained L M {_LONG}"),
    "jailbreak": _command(
        "pcfg-counter --seeds 3 --pretrained jailbreak --task-token T_NJ --c-tr 0 "
        "--learning-rates 8e-4 1e-3 1.5e-3 2e-3 3e-3 --reft-rates --no-controls",
        "jailbreak",
    ),
    "stories": _command("stories --preset quick --rates 2e-3 2e-4"),
    "layers": _command("layers --preset quick"),
    "cddm": _command("cddm --preset quick"),
    "pretraining": _command(
        "pcfg-counter --seeds 5 --pretrained M-4000-{seed} M-12000-{seed} --reft-rates --no-controls"
    ),
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
    fits: Callable[[Any], bool]


def _plain(view: View, name: str) -> bool:
    """Whether a run is of an experiment as it is, without another method, mixture, token or randFT."""
    fields = view.fields
    if view.name != name or fields["method"] != "full" or fields["share_pretraining"]:
        return False
    return not fields.get("rand_ft") and fields.get("task_token") is None


def _several_priors(view: View) -> bool:
    return len({view.prior(name) for name in view.capabilities}) > 1


def with_reft(needs: Needs, command: str, updates: int, controls: bool = False) -> Needs:
    """The same with so many updates of reFT or more, and models from scratch; another command makes it."""

    def fits(view: View) -> bool:
        fields = view.fields
        long = fields["reft_rates"] and fields["reft_iterations"] >= updates
        return needs.fits(view) and bool(long) and (fields["controls"] or not controls)

    longer = f"{updates} updates of reFT or more{' and controls' if controls else ''}"
    return Needs(command, f"{needs.words}, with {longer}", fits)


COUNTER = Needs(
    "counter", "experiment counter with C_Tr of 1", lambda v: _plain(v, "counter") and 1 in v.fields["c_tr"]
)
MAX = Needs(
    "max-identifier",
    f"experiment max-identifier with gradients clipped at {GENTLE:g} or less",
    lambda v: _plain(v, "max-identifier") and (v.fields["clip"] or float("inf")) <= GENTLE,
)
PCFG = Needs(
    "pcfg-counter",
    "experiment pcfg-counter with C_Tr of 1 and several priors",
    lambda v: _plain(v, "pcfg-counter") and 1 in v.fields["c_tr"] and _several_priors(v),
)
WHOLE = Needs(
    "pcfg-counter",
    "experiment pcfg-counter with C_Tr of 0 and 1 and several priors",
    lambda v: PCFG.fits(v) and 0 in v.fields["c_tr"],
)
ORDINARY = Needs("pcfg-counter", "experiment pcfg-counter", lambda v: _plain(v, "pcfg-counter"))
LENGTHS = Needs(
    "pretraining",
    "experiment pcfg-counter with two lengths of pretraining of one prior, each seed its own",
    lambda v: _plain(v, "pcfg-counter") and lengths(v) is not None,
)
RAND_FT = Needs(
    "rand-ft",
    "experiment pcfg-counter with rand_ft above 0",
    lambda v: v.name == "pcfg-counter" and v.fields["rand_ft"] > 0,
)
JAILBREAK = Needs(
    "jailbreak",
    "experiment pcfg-counter with a task_token, of a model with several for counting",
    lambda v: v.name == "pcfg-counter" and v.fields["task_token"] is not None,
)
STORIES = Needs(
    "stories", "experiment stories with its controls", lambda v: v.name == "stories" and v.fields["controls"]
)
LAYERS = Needs("layers", "experiment layers", lambda v: v.name == "layers")
DECISIONS = Needs("cddm", "experiment cddm", lambda v: v.name == "cddm")
