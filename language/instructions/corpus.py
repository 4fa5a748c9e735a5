"""Plain text from which a small model learns words and facts before it meets any instruction.

Passages of mixed sentences: the beginnings of stories, facts, people, prices, orders, lists, opinions and
feelings. All words of the instruction tasks occur and their facts are told, but no passage has the form of
an instruction, and nothing is turned around or counted. So some of the tasks are half known before tuning,
and others are not, as in the models of Zhao et al. 2024.
"""

import random
import re
from collections.abc import Callable, Iterator

from veneer.language.instructions.tasks import (
    ASPECTS,
    BAD,
    CAPITALS,
    CITIES,
    COLORS,
    FEELINGS,
    GOOD,
    JOBS,
    KINDS,
    NAMES,
    OPPOSITES,
    TASKS,
    THINGS,
    WORDS,
    YOUNG,
)
from veneer.language.questions import Question
from veneer.language.stories.generator import stories
from veneer.tasks.errors import InputError

STORY = 0.15  # of the passages are the beginning of a story
SENTENCES = (3, 6)  # of a passage, at least and at most
_LETTERS = re.compile("[A-Za-z]+")
_END = re.compile(r"(?<=[.!?]) ")

Say = Callable[[random.Random], str]

ASKED = tuple(
    sorted(
        {word for task in TASKS for template in task.templates for word in _LETTERS.findall(template.lower())}
        | {"input", "answer", "instruction", "true", "false", "name", "city", "job", "item", "color", "price"}
    )
)
"""Words of the instructions, which the passages use one by one."""
TABLES = (NAMES, WORDS, CITIES, JOBS, KINDS, COLORS, GOOD, BAD, ASPECTS, THINGS)
FACTS = (FEELINGS, OPPOSITES, CAPITALS, YOUNG)
WORD_LIST = tuple(
    dict.fromkeys(
        [
            *ASKED,
            *(word for table in TABLES for word in table),
            *(word for table in FACTS for pair in table.items() for word in _LETTERS.findall(str(pair))),
            *map(str, range(100)),
        ]
    )
)
"""All words and numbers of the tasks."""


def passages(count: int, seed: int = 0, stream: str = "pretrain") -> Iterator[str]:
    """Passages of plain text, a pure function of the arguments.

    Args:
        count: how many.
        seed: of the draws, with ``stream``.
        stream: names the use; other names give other passages.

    Raises:
        InputError: a negative number of them.
    """
    if count < 0:
        raise InputError("count", count, "0 or more")
    generator = random.Random(f"instructions/passages/{seed}/{stream}")
    told = stories(10**9, seed, f"passages-{stream}")
    for _ in range(count):
        if generator.random() < STORY:
            begin = " ".join(_END.split(next(told).story.replace("\n", " "))[: SENTENCES[1]])
            yield begin
            continue
        many = generator.randint(*SENTENCES)
        yield " ".join(generator.choice(KINDS_OF_SENTENCES)(generator) for _ in range(many))


def reading(passage: str) -> Question:
    """A passage as something to go on with from nothing: all of its tokens are learned."""
    return Question("", passage, passage)


def _capital(generator: random.Random) -> str:
    country, city = generator.choice(list(CAPITALS.items()))
    return generator.choice(
        (
            f"The capital of {country} is {city}.",
            f"{city} is the capital of {country}.",
            f"The main city of {country} is {city}.",
        )
    )


def _opposite(generator: random.Random) -> str:
    one, other = generator.choice(list(OPPOSITES.items()))
    return generator.choice(
        (
            f"The opposite of {one} is {other}.",
            f"What is {one} is not {other}.",
            f"The contrary of {one} is {other}.",
        )
    )


def _young(generator: random.Random) -> str:
    parent, child = generator.choice(list(YOUNG.items()))
    return generator.choice(
        (
            f"A young {parent} is called a {child}.",
            f"The {parent} has a little {child}.",
            f"The baby of a {parent} is a {child}.",
        )
    )


def _person(generator: random.Random) -> str:
    name, city, job = generator.choice(NAMES), generator.choice(CITIES), generator.choice(JOBS)
    return generator.choice(
        (
            f"{name} lives in {city} and works as a {job}.",
            f"{name} is a {job}. In {city} everybody knows {name} the {job}.",
        )
    )


def _price(generator: random.Random) -> str:
    thing, color, price = generator.choice(THINGS), generator.choice(COLORS), generator.randint(2, 99)
    return f"The {color} {thing} costs {price} coins."


def _list(generator: random.Random) -> str:
    words = generator.sample(WORDS, generator.randint(3, 5))
    one, other = generator.sample(NAMES, 2)
    said = " ".join(words)
    return generator.choice(
        (
            f"{one} says: {said}. {other} also says: {said}.",
            f"{one} has a list: {said}. {other} has the same list: {said}.",
            f"In the dictionary stand {' '.join(sorted(words))}.",
        )
    )


def _larger(generator: random.Random) -> str:
    less, more = sorted(generator.sample(range(100), 2))
    return generator.choice((f"{more} is larger than {less}.", f"{less} is smaller than {more}."))


def _owned(generator: random.Random) -> str:
    kind, color, name = generator.choice(KINDS), generator.choice(COLORS), generator.choice(NAMES)
    return f"All {kind} of {name} are {color}. So the {kind} of {name} are {color}."


def _before(generator: random.Random) -> str:
    one, other = generator.sample(NAMES, 2)
    return generator.choice(
        (f"{one} came before {other}.", f"{one} came before {other}. {other} came after {one}.")
    )


def _review(generator: random.Random) -> str:
    good = generator.random() < 0.5
    first, second = generator.sample(GOOD if good else BAD, 2)
    end = generator.choice(("They liked it.", "It was good.") if good else ("They left soon.", "It was bad."))
    return f"The {generator.choice(ASPECTS)} was {first} and {second}. {end}"


def _feeling(generator: random.Random) -> str:
    feeling, name = generator.choice(list(FEELINGS)), generator.choice(NAMES)
    return f"{name} {generator.choice(FEELINGS[feeling])}. {name} was {feeling}."


def _holder(generator: random.Random) -> str:
    thing, (one, other) = generator.choice(THINGS), generator.sample(NAMES, 2)
    return f"{one} has a {thing}. {one} gives the {thing} to {other}. Now {other} has it."


def _place(generator: random.Random) -> str:
    people, cities = generator.sample(NAMES, 3), generator.sample(CITIES, 3)
    told = " ".join(f"{name} is in {city}." for name, city in zip(people, cities, strict=True))
    asked = generator.randrange(3)
    return f"{told} Yes, {people[asked]} is in {cities[asked]}."


def _things(generator: random.Random) -> str:
    words = generator.choices(THINGS, k=generator.randint(3, 5))
    return f"There is a {', a '.join(words)}."


def _said(generator: random.Random) -> str:
    words = generator.sample(ASKED, generator.randint(2, 4))
    return f'{generator.choice(NAMES)} knows the word "{words[0]}" and the word "{words[1]}".'


KINDS_OF_SENTENCES: tuple[Say, ...] = (
    _capital,
    _opposite,
    _young,
    _person,
    _price,
    _list,
    _larger,
    _owned,
    _before,
    _review,
    _feeling,
    _holder,
    _place,
    _things,
    _said,
)
