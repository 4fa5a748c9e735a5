"""Texts about numbers for pretraining: order, comparison and look-up, each by itself, never as one decision.

A language model of today has met numbers, comparatives, and questions about lists before it meets a task
like that of Lin (2024). Our stories have no digit in them. These texts stand in for what such a model has
met: counting, two numbers compared, and a number looked up by the name of what it counts. No text asks to
choose by a context which of two comparisons counts, none sets motion against colour, and none is worded like
``language/cddm.py``. Pairs of numbers that decisions hold out are never compared here either.
"""

import random
from collections.abc import Iterator

from veneer.language.cddm import COHERENCES, LARGEST, split_pairs
from veneer.language.stories.words import BOYS, GIRLS
from veneer.tasks.errors import InputError

SENTENCES = 12
"""In a text: then it is about as long as a story."""
THINGS = ("shells", "stones", "apples", "buttons", "nuts", "leaves", "cards", "bells", "plums", "pens")
SIDES = ("left", "right")
COLOURS = ("red", "blue", "green", "yellow", "white", "black")
MOVERS = ("boat", "kite", "train", "cat", "wheel", "cloud")
KEPT = frozenset(pair for coherence in COHERENCES for pair in split_pairs(coherence)[1])
"""Pairs of numbers, smaller first, that are not compared."""


def number_texts(count: int, seed: int = 0, stream: str = "pretrain") -> Iterator[str]:
    """Texts of ``SENTENCES`` sentences; the i-th is a function of (seed, stream, i) alone.

    Raises:
        InputError: a negative number of them.
    """
    if count < 0:
        raise InputError("count", count, "0 or more")
    for index in range(count):
        generator = random.Random(f"numbers/{seed}/{stream}/{index}")
        yield " ".join(generator.choice(KINDS)(generator) for _ in range(SENTENCES))


def compared(generator: random.Random) -> tuple[int, int]:
    """Two different numbers, in either order, that decisions do not hold out."""
    while True:
        one, other = generator.randint(0, LARGEST), generator.randint(0, LARGEST)
        if one != other and (min(one, other), max(one, other)) not in KEPT:
            return one, other


def _counting(generator: random.Random) -> str:
    start, step = generator.randint(0, LARGEST - 4), generator.choice((1, 1, -1))
    told = [start + 4 + step * place if step < 0 else start + place for place in range(5)]
    return f"They counted {', '.join(map(str, told))}."


def _more(generator: random.Random) -> str:
    one, other = compared(generator)
    return f"{one} is {'more' if one > other else 'less'} than {other}."


def _most(generator: random.Random) -> str:
    one, other = compared(generator)
    wanted = generator.choice(("more", "less"))
    right = max(one, other) if wanted == "more" else min(one, other)
    return f"Which is {wanted}, {one} or {other}? It is {right}."


def _owners(generator: random.Random) -> str:
    one, other = compared(generator)
    first, second = generator.sample((*GIRLS, *BOYS), 2)
    thing = generator.choice(THINGS)
    owner = first if one > other else second
    return f"{first} had {one} {thing} and {second} had {other}. {owner} had more."


def _look_up(generator: random.Random) -> str:
    name, things = generator.choice((*GIRLS, *BOYS)), generator.sample(THINGS, 2)
    numbers = [generator.randint(0, LARGEST) for _ in things]
    asked = generator.randrange(2)
    return (
        f"{name} had {numbers[0]} {things[0]} and {numbers[1]} {things[1]}. "
        f"How many {things[asked]}? {numbers[asked]}."
    )


def _place(generator: random.Random) -> str:
    things = generator.sample(THINGS, 2)
    left, right = things
    asked = generator.randrange(2)
    return (
        f"On the left there were {left}, and on the right {right}. "
        f"Where were the {things[asked]}? On the {SIDES[asked]}."
    )


def _words(generator: random.Random) -> str:
    mover = generator.choice(MOVERS)
    if generator.random() < 0.5:
        return f"The color of the {mover} was {generator.choice(COLOURS)}."
    return f"The motion of the {mover} was {generator.choice(('slow', 'quick', 'strong'))}."


KINDS = (_counting, _more, _more, _most, _owners, _owners, _look_up, _look_up, _place, _words)
"""Kinds of sentences, each as likely as it is named."""
