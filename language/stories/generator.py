"""Stories from a grammar of events: a plot, its people and the features asked for, by seed.

A story is told in order of cause and effect: somebody wants something and sets about it; there may be an
omen and a quarrel; trouble comes, by a cause that is named; an attempt fails; there may be a wrong belief
that turns out otherwise; it ends well or badly; there may be a lesson. Passing remarks use the same phrases
without meaning anything, so that no phrase alone tells a feature.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence

from veneer.language.stories import words
from veneer.language.stories.features import FEATURES, Feature, content_words, sentences
from veneer.language.stories.form import LINES, Record
from veneer.language.stories.plots import Pair, Plot
from veneer.language.stories.plots_home import HOME
from veneer.language.stories.plots_outdoors import OUTDOORS
from veneer.tasks.errors import InputError

PLOTS: tuple[Plot, ...] = (*OUTDOORS, *HOME)

RATES: dict[Feature, float] = {
    "Twist": 0.15,
    "Foreshadowing": 0.08,
    "Dialogue": 0.4,
    "BadEnding": 0.07,
    "MoralValue": 0.06,
    "Conflict": 0.09,
}
"""How often a story has each: the rates that the paper's probes imply, and our own for Dialogue."""

MOST = 3  # features of one story, as in TinyStories-Instruct
PASSING = 0.15  # how often a story without a feature has a remark in that feature's phrases

_CHOICE = re.compile(r"\[([^\[\]]+)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_START = re.compile(r"(^\"?|[.!?] \"?|\n\"?)([a-z])")


def stories(
    count: int,
    seed: int = 0,
    stream: str = "train",
    start: int = 0,
    rates: Mapping[Feature, float] = RATES,
) -> Iterator[Record]:
    """Records with features at their rates; the i-th is a function of (rates, seed, stream, i) alone.

    Args:
        count: how many.
        seed: of the draws, with ``stream``.
        stream: names the use; other names give other stories.
        start: the first one's number.
        rates: how often a story has each feature, the natural ones unless others are given.

    Raises:
        InputError: a negative number of them.
    """
    if count < 0:
        raise InputError("count", count, "0 or more")
    for index in range(start, start + count):
        generator = random.Random(f"stories/{seed}/{stream}/{index}")
        yield story(generator, drawn_features(generator, rates))


def drawn_features(generator: random.Random, rates: Mapping[Feature, float]) -> tuple[Feature, ...]:
    """Features drawn each at its rate, drawn again where there are more than ``MOST``."""
    while True:
        drawn = tuple[Feature, ...](feature for feature in FEATURES if generator.random() < rates[feature])
        if len(drawn) <= MOST:
            return drawn


def story(generator: random.Random, features: Sequence[str], plot: Plot | None = None) -> Record:
    """One story that has the features given and no others.

    Args:
        generator: what is drawn from.
        features: in any order.
        plot: which kind of story; None draws one.

    Raises:
        InputError: a feature that does not exist, or one twice.
    """
    if len(set(features)) != len(features) or not set(features) <= set(FEATURES):
        raise InputError("features", tuple(features), f"different ones of {', '.join(FEATURES)}")
    plot = plot or generator.choice(PLOTS)
    slots = _slots(generator, plot)
    told = "\n\n".join(
        _sentence_case(_fill(generator, " ".join(part), slots))
        for part in _events(generator, plot, set(features))
    )
    ending = plot.lost if "BadEnding" in features else plot.saved
    summary = _sentence_case(_fill(generator, f"{plot.summary} {ending}", slots))
    order = list(LINES)
    generator.shuffle(order)
    return Record(
        words=_words(generator, told, plot),
        features=tuple(feature for feature in FEATURES if feature in features),
        summary=summary,
        sentence=generator.choice([s for s in sentences(told) if '"' not in s]),
        story=told,
        order=tuple(order),
    )


def _events(generator: random.Random, plot: Plot, features: set[str]) -> list[list[str]]:
    """The wordings of a story by paragraph, slots still open."""

    def said(pair: Pair, always: bool = False) -> str:
        return pair[1] if "Dialogue" in features and (always or generator.random() < 0.7) else pair[0]

    def passing(feature: Feature, remarks: Sequence[str]) -> list[str]:
        wanted = feature not in features and generator.random() < PASSING
        return [generator.choice(remarks)] if wanted else []

    choose = generator.choice
    bad, quarrel = "BadEnding" in features, "Conflict" in features
    begin = [choose(words.OPENINGS), choose(plot.wants)]
    middle = [choose(plot.going), *passing("Conflict", words.PEACEFUL)]
    # A story without a twist may state a belief or a denial in passing; one with a twist has its own.
    middle += passing("Twist", words.BELIEVED) + passing("Twist", words.DENIED)
    middle += (
        [choose(plot.omens)] if "Foreshadowing" in features else passing("Foreshadowing", words.PASSED_OVER)
    )
    if quarrel:
        middle.append(said(choose(words.QUARRELS)))
    middle.append(choose(plot.troubles))
    middle.append(said(choose(words.REACTIONS)))
    if quarrel:
        middle.append(choose(words.PEACE))

    late = [said(choose(plot.attempts), always=True)]
    if "Twist" in features:
        late += choose(plot.twists)
    elif not bad:
        late.append(said(choose(words.ARRIVALS)))
    late.append(choose(plot.losses) if bad else said(choose(plot.rescues)))

    end = [said(choose(words.BAD_ENDS if bad else words.GOOD_ENDS))]
    if "MoralValue" in features:
        end.append(choose(words.LESSONS))
    return [begin, middle, late, end]


def _slots(generator: random.Random, plot: Plot) -> dict[str, str]:
    """What stands for each slot in one story; a value may hold slots itself."""
    girl, friend_girl = generator.random() < 0.5, generator.random() < 0.5
    hero = generator.choice(words.GIRLS if girl else words.BOYS)
    pal = generator.choice([name for name in (words.GIRLS if friend_girl else words.BOYS) if name != hero])
    return {
        "hero": hero,
        "child": "girl" if girl else "boy",
        "she": "she" if girl else "he",
        "him": "her" if girl else "him",
        "her": "her" if girl else "his",
        "hers": "hers" if girl else "his",
        "herself": "herself" if girl else "himself",
        "pal": pal,
        "pal_him": "her" if friend_girl else "him",
        "pal_her": "her" if friend_girl else "his",
        "trait": generator.choice(words.TRAITS),
        "home": generator.choice(words.HOMES),
        "helper": generator.choice(words.HELPERS),
        "thing": generator.choice(plot.things),
        "look": generator.choice(plot.looks),
        "place": generator.choice(plot.places),
        "lesson": generator.choice(plot.lessons),
    }


def _fill(generator: random.Random, wording: str, slots: Mapping[str, str]) -> str:
    """Choices made, slots filled, and ``a`` before a vowel made ``an``."""

    def word(found: re.Match[str]) -> str:
        return generator.choice(words.IGNORED) if found[1] == "ignored" else slots[found[1]]

    while "[" in wording:
        wording = _CHOICE.sub(lambda found: generator.choice(found[1].split("|")), wording)
    while "{" in wording:
        wording = _SLOT.sub(word, wording)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", wording)


def _sentence_case(text: str) -> str:
    """A capital at the start of each sentence, also in direct speech; not after speech that goes on."""
    return _START.sub(lambda found: found[1] + found[2].upper(), text)


def _words(generator: random.Random, told: str, plot: Plot) -> tuple[str, ...]:
    """A noun, a verb and an adjective that occur in the story, as in TinyStories."""
    found = content_words(told)
    looks = {*plot.looks, *words.TRAITS}
    nouns = content_words(" ".join((*plot.things, *plot.places, *words.HOMES))) - looks
    verbs = {word for word in found if word.endswith("ed") and word not in looks}
    return tuple(generator.choice(sorted(found & kind)) for kind in (nouns, verbs, looks) if found & kind)
