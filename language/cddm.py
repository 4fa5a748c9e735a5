"""Context-dependent decisions as text (Mante et al. 2013; Lin 2024, whose wording we have not seen).

A trial shows two features, motion and colour, each with a strength to the left and to the right; a context
says which counts, and the answer is the side on which that one is stronger. The other feature says the same
side (congruent) or the other (incongruent). Context, answer and congruence are balanced exactly in every
eight trials. Strengths are numbers whose difference is the coherence. Some pairs of numbers and one template
are held out.

Wordings, numbers and the split are ours.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Literal, get_args

from veneer.tasks.errors import InputError

Feature = Literal["motion", "color"]
Side = Literal["left", "right"]
FEATURES: tuple[Feature, ...] = get_args(Feature)
SIDES: tuple[Side, ...] = get_args(Side)

COHERENCES = (5, 15, 45)  # differences of the two numbers; a third each
LARGEST = 99  # number: one or two digits, and one token in many vocabularies
HELD_OUT = 0.2  # share of the pairs of numbers that are kept for testing

TEMPLATES = (
    "Context: {context}. Left: motion {motion_left} color {color_left}. "
    "Right: motion {motion_right} color {color_right}. Answer:",
    "Judge the {context}. Motion is {motion_left} to the left and {motion_right} to the right. "
    "Color is {color_left} to the left and {color_right} to the right. The stronger side is",
    "On the left there is motion {motion_left} and color {color_left}; on the right there is motion "
    "{motion_right} and color {color_right}. Where is more {context}? Answer:",
    "motion left {motion_left} right {motion_right}, color left {color_left} right {color_right}, "
    "attend to {context}:",
)
TRAINED, UNSEEN = TEMPLATES[:3], TEMPLATES[3:]
"""Templates to train on, and the one that is held out."""


@dataclass(frozen=True)
class Trial:
    """One decision.

    Attributes:
        context: the feature that counts.
        motion: its strengths to the left and to the right.
        color: the same of colour.
        template: the wording, with a field for the context and each strength.
    """

    context: Feature
    motion: tuple[int, int]
    color: tuple[int, int]
    template: str = TEMPLATES[0]

    @property
    def relevant(self) -> tuple[int, int]:
        """The strengths that count."""
        return self.motion if self.context == "motion" else self.color

    @property
    def choice(self) -> Side:
        """The right answer."""
        return _side(self.relevant)

    @property
    def congruent(self) -> bool:
        """Whether both features say the same side."""
        return _side(self.motion) == _side(self.color)

    @property
    def pair(self) -> tuple[int, int]:
        """The relevant numbers, smaller first: what decoders hold out."""
        low, high = sorted(self.relevant)
        return low, high

    @property
    def prompt(self) -> str:
        """The trial as text, up to the answer."""
        return self.template.format(**self._fields())

    @property
    def answer(self) -> str:
        """The answer as it goes on from the prompt."""
        return f" {self.choice}"

    @property
    def variables(self) -> dict[str, int]:
        """What may be decoded from a model's states, as classes; a side is 0 (left) or 1 (right)."""
        return {
            "context": FEATURES.index(self.context),
            "choice": SIDES.index(self.choice),
            "motion": SIDES.index(_side(self.motion)),
            "color": SIDES.index(_side(self.color)),
            "congruence": int(self.congruent),
            "coherence": COHERENCES.index(abs(self.relevant[0] - self.relevant[1])),
        }

    def spans(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Where things stand in the prompt, as half-open ranges of characters, by role.

        Roles are "context" and the "relevant" and "irrelevant" numbers.
        """
        found: dict[str, list[tuple[int, int]]] = {"context": [], "relevant": [], "irrelevant": []}
        fields, place = self._fields(), 0
        for before, name, _, _ in Formatter().parse(self.template):
            place += len(before)
            if name is not None:
                end = place + len(fields[name])
                counts = name.startswith(self.context)
                found["context" if name == "context" else "relevant" if counts else "irrelevant"].append(
                    (place, end)
                )
                place = end
        return {role: tuple(ranges) for role, ranges in found.items()}

    def _fields(self) -> dict[str, str]:
        return {
            "context": self.context,
            **{
                f"{feature}_{side}": str(value)
                for feature, values in (("motion", self.motion), ("color", self.color))
                for side, value in zip(SIDES, values, strict=True)
            },
        }


def trials(
    count: int,
    seed: int = 0,
    stream: str = "train",
    held_out: bool = False,
    templates: Sequence[str] = TRAINED,
) -> Iterator[Trial]:
    """Trials, a pure function of the arguments; every eight in a row are balanced.

    Args:
        count: how many.
        seed: of what is drawn.
        stream: names the use, as "train" or "evaluate"; other names give other trials.
        held_out: take both pairs of numbers from those kept for testing, else from the others.
        templates: each is as likely.

    Raises:
        InputError: a negative count, no template.
    """
    if count < 0:
        raise InputError("count", count, "0 or more")
    if not templates:
        raise InputError("templates", tuple(templates), "one or more")
    generator = random.Random(f"cddm/{seed}/{stream}/{held_out}")
    pairs = {coherence: split_pairs(coherence)[held_out] for coherence in COHERENCES}
    cells: list[tuple[Feature, Side, bool]] = [
        (context, side, same) for context in FEATURES for side in SIDES for same in (True, False)
    ]
    for index in range(count):
        if index % len(cells) == 0:
            generator.shuffle(cells)
        context, side, same = cells[index % len(cells)]
        other: Side = side if same else SIDES[1 - SIDES.index(side)]
        relevant, irrelevant = _drawn(generator, pairs, side), _drawn(generator, pairs, other)
        motion, color = (relevant, irrelevant) if context == "motion" else (irrelevant, relevant)
        yield Trial(context, motion, color, generator.choice(templates))


def split_pairs(coherence: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The pairs of numbers of a coherence, smaller first: those to train on, and those held out.

    The split is the same for every seed: it depends on the coherence alone.
    """
    every = [(low, low + coherence) for low in range(LARGEST + 1 - coherence)]
    random.Random(f"cddm/pairs/{coherence}").shuffle(every)
    held = round(HELD_OUT * len(every))
    return sorted(every[held:]), sorted(every[:held])


def _drawn(generator: random.Random, pairs: dict[int, list[tuple[int, int]]], side: Side) -> tuple[int, int]:
    low, high = generator.choice(pairs[generator.choice(COHERENCES)])
    return (high, low) if side == "left" else (low, high)


def _side(values: tuple[int, int]) -> Side:
    return "left" if values[0] > values[1] else "right"
