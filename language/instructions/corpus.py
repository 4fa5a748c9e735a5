"""Plain text from which a small model learns words and facts before it meets any instruction.

Passages of mixed sentences: the beginnings of stories, facts, people, prices, orders, lists, opinions and
feelings. All words of the instruction tasks occur and their facts are told, but no passage has the form of
an instruction. Much of what is said can be known from what stands before it: lists are told again, backwards
and in order, things are looked up, counted, compared and judged. Small models learn to look back from such
text alone, soonest where a whole passage says the same again; without it no tuning of ours taught them to
copy. So the abilities are there before tuning, and what an instruction asks for is not, as in the models of
Zhao et al. 2024.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from veneer.language.instructions.tasks import (
    ASPECTS,
    BAD,
    CAPITALS,
    CITIES,
    COLORS,
    COUNTED,
    FEELINGS,
    GOOD,
    JOBS,
    KINDS,
    NAMES,
    NUMBERS,
    OPPOSITES,
    PRICES,
    TASKS,
    THINGS,
    WORDS,
    YOUNG,
)
from veneer.language.questions import Question
from veneer.language.stories.generator import stories
from veneer.tasks.errors import InputError

AGAIN = 0.2
"""Of the passages, how many say the same words or facts again and again, where nothing else is asked."""
STORY = 0.08  # of the other passages are the beginning of a story
LENGTH = 30  # words after which a passage has no further sentence; equal lengths leave little to fill up
FACT = 0.3  # of the sentences can only be known; the rest follow from what stands before
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
            *map(str, (*NUMBERS, *PRICES)),
        ]
    )
)
"""All words and numbers of the tasks."""


def passages(count: int, seed: int = 0, stream: str = "pretrain", again: float = AGAIN) -> Iterator[str]:
    """Passages of plain text, a pure function of the arguments.

    Args:
        count: how many.
        seed: of the draws, with ``stream``.
        stream: names the use; other names give other passages.
        again: share of the passages that say the same words or facts again and again.

    Raises:
        InputError: a negative number of them.
    """
    if count < 0:
        raise InputError("count", count, "0 or more")
    generator = random.Random(f"instructions/passages/{seed}/{stream}")
    told = stories(10**9, seed, f"passages-{stream}")
    for _ in range(count):
        drawn = generator.random()
        if drawn < again:
            sentences = generator.choice((_same_words, _same_facts))(generator)
        elif drawn < again + STORY * (1 - again):
            sentences = iter(_END.split(next(told).story.replace("\n", " ")))
        else:
            sentences = _sentences(generator)
        yield _passage(sentences)


def reading(passage: str) -> Question:
    """A passage as something to go on with from nothing: all of its tokens are learned."""
    return Question("", passage, passage)


def _passage(sentences: Iterator[str]) -> str:
    """So many sentences that the length is reached."""
    kept: list[str] = []
    for sentence in sentences:
        kept.append(sentence)
        if sum(len(own.split()) for own in kept) >= LENGTH:
            break
    return " ".join(kept)


def _sentences(generator: random.Random) -> Iterator[str]:
    while True:
        yield generator.choice(FACTUAL if generator.random() < FACT else FOLLOWING)(generator)


def _same_words(generator: random.Random) -> Iterator[str]:
    """A list of words, again and again: what comes next stands behind the last time that this word stood."""
    words = generator.sample(WORD_LIST, generator.randint(3, 8))
    while True:
        yield " ".join(words)


def _same_facts(generator: random.Random) -> Iterator[str]:
    """Who is where, or who has what, told again and again in any order."""
    count = generator.randint(2, 4)
    told = [f"{name} is in {city}." for name, city in _pairs(generator, CITIES, count)]
    if generator.random() < 0.5:
        told = [f"{name} has a {word}." for name, word in _pairs(generator, WORDS, count)]
    while True:
        yield from generator.sample(told, count)


def _pairs(generator: random.Random, words: Sequence[str], count: int) -> Iterator[tuple[str, str]]:
    yield from zip(generator.sample(NAMES, count), generator.sample(words, count), strict=True)


def _judged(generator: random.Random, claim: str, true: bool) -> str:
    """A claim that somebody makes, and whether it holds."""
    said = generator.choice((f"{generator.choice(NAMES)} says: {claim}", f"So {claim}"))
    return f"{said} That is {'true' if true else 'false'}."


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
    thing, color, price = generator.choice(THINGS), generator.choice(COLORS), generator.choice(PRICES)
    return f"The {color} {thing} costs {price} coins."


def _words(generator: random.Random) -> list[str]:
    """Mostly words that tasks put into lists, and at times any others."""
    own = WORDS if generator.random() < 0.7 else WORD_LIST
    return generator.sample(own, generator.randint(2, 4))


def _again(generator: random.Random) -> str:
    words = " ".join(_words(generator))
    one, other = generator.sample(NAMES, 2)
    return generator.choice(
        (
            f"{one} says: {words}. {other} also says: {words}.",
            f"{one} has a list: {words}. {other} has the same list: {words}.",
        )
    )


def _backwards(generator: random.Random) -> str:
    words = _words(generator)
    back = " ".join(reversed(words))
    return f"{generator.choice(NAMES)} passed {' '.join(words)}. On the way back it was {back}."


def _sorted(generator: random.Random) -> str:
    words = generator.sample(WORDS, generator.randint(2, 4))
    said = generator.choice(
        ("In the dictionary stand", f"{generator.choice(NAMES)} has {' '.join(words)}. In order")
    )
    return f"{said} {' '.join(sorted(words))}."


def _ends(generator: random.Random) -> str:
    words = _words(generator)
    first = f"It began with {words[0]}. " if generator.random() < 0.3 else ""
    return f"{generator.choice(NAMES)} wrote {' '.join(words)}. {first}The end was {words[-1]}."


def _person_card(generator: random.Random) -> str:
    name, city, job = generator.choice(NAMES), generator.choice(CITIES), generator.choice(JOBS)
    card = f"On the card stands name: {name}; city: {city}; job: {job}."
    return f"{card} {name} lives in {city} and works as a {job}."


def _price_card(generator: random.Random) -> str:
    thing, color, price = generator.choice(THINGS), generator.choice(COLORS), generator.choice(PRICES)
    return (
        f"On the card stands item: {thing}; color: {color}; price: {price}. "
        f"The {color} {thing} costs {price} coins."
    )


def _counting(generator: random.Random) -> str:
    first = generator.choice(NUMBERS[:-3])
    return f"{generator.choice(NAMES)} counts: {' '.join(map(str, range(first, first + 4)))}."


def _larger(generator: random.Random) -> str:
    less, more = sorted(generator.sample(NUMBERS, 2))
    if generator.random() < 0.4:
        return generator.choice((f"{more} is larger than {less}.", f"{less} is smaller than {more}."))
    true = generator.random() < 0.5
    one, other = (more, less) if true else (less, more)
    return _judged(generator, f"{one} is larger than {other}.", true)


def _owned(generator: random.Random) -> str:
    (kind, other), name = generator.sample(KINDS, 2), generator.choice(NAMES)
    colors = dict(zip((kind, other), generator.sample(COLORS, 2), strict=True))
    told = " ".join(f"All {own} of {name} are {color}." for own, color in colors.items())
    asked, true = generator.choice((kind, other)), generator.random() < 0.5
    if generator.random() < 0.4:
        return f"{told} So the {asked} of {name} are {colors[asked]}."
    color = colors[asked] if true else colors[other if asked == kind else kind]
    return f"{told} {_judged(generator, f'the {asked} of {name} are {color}.', true)}"


def _before(generator: random.Random) -> str:
    one, two, three = generator.sample(NAMES, 3)
    told, true = f"{one} came before {two}. {two} came before {three}.", generator.random() < 0.5
    if generator.random() < 0.4:
        return f"{told} So {one} came before {three}."
    first, last = (one, three) if true else (three, one)
    return f"{told} {_judged(generator, f'{first} came before {last}.', true)}"


def _review(generator: random.Random) -> str:
    good = generator.random() < 0.5
    first, second = generator.sample(GOOD if good else BAD, 2)
    end = generator.choice(("They liked it.", "It was good.") if good else ("They left soon.", "It was bad."))
    return f"The {generator.choice(ASPECTS)} was {first} and {second}. {end}"


def _feeling(generator: random.Random) -> str:
    feeling, name = generator.choice(list(FEELINGS)), generator.choice(NAMES)
    return f"{name} {generator.choice(FEELINGS[feeling])}. {name} was {feeling}."


def _holder(generator: random.Random) -> str:
    thing, people = generator.choice(THINGS), generator.sample(NAMES, generator.randint(2, 4))
    given = " ".join(f"{one} gives the {thing} to {other}." for one, other in pairwise(people))
    return f"{people[0]} has a {thing}. {given} Now {people[-1]} has it."


def _place(generator: random.Random) -> str:
    count = generator.randint(2, 3)
    people, cities = generator.sample(NAMES, count), generator.sample(CITIES, count)
    told = " ".join(f"{name} is in {city}." for name, city in zip(people, cities, strict=True))
    asked = generator.randrange(count)
    return f"{told} Yes, {people[asked]} is in {cities[asked]}."


def _things(generator: random.Random) -> str:
    words = generator.choices(COUNTED, k=generator.randint(2, 4))
    asked = generator.choice(COUNTED)
    return f"There is a {', a '.join(words)}. The {asked} is there {words.count(asked)} times."


def _said(generator: random.Random) -> str:
    words = generator.sample(ASKED, generator.randint(2, 4))
    return f'{generator.choice(NAMES)} knows the word "{words[0]}" and the word "{words[1]}".'


FACTUAL: tuple[Say, ...] = (_capital, _opposite, _young, _person, _price, _review, _feeling, _counting, _said)
FOLLOWING: tuple[Say, ...] = (
    _again,
    _backwards,
    _sorted,
    _ends,
    _person_card,
    _price_card,
    _larger,
    _owned,
    _before,
    _holder,
    _place,
    _things,
)
