"""Whether a story has a feature: checkers that read its text and nothing else.

The six features are those of TinyStories-Instruct (Eldan & Li 2023). There they are what the writing model
was told to do; here each is a property of the text that a program decides, also of text that a model wrote:

- Dialogue: somebody speaks in direct speech.
- Conflict: people quarrel, argue or fight (and not "never").
- MoralValue: somebody learns *that* something is so, or a lesson is named.
- BadEnding: the last sentence that shows a feeling, a moral aside, shows a bad one.
- Foreshadowing: a detail that is new in the story is passed over, and comes back in a later sentence.
- Twist: a belief that the story has stated is later denied ("not ... at all"), by a word of the belief.
"""

import re
from collections.abc import Callable
from typing import Literal, get_args

Feature = Literal["Twist", "Foreshadowing", "Dialogue", "BadEnding", "MoralValue", "Conflict"]
FEATURES: tuple[Feature, ...] = get_args(Feature)
"""In the order of the public code of Jain et al. 2024."""

_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"])|(?<=[.!?][\"])\s+(?=[A-Z\"])")
_WORD = re.compile(r"[A-Za-z]+")
_SPEECH = re.compile(r"[\"“”]")
_QUARREL = re.compile(r"\b(?:quarrel(?:led|ling|ed|ing)?|argued?|arguing|(?:a|bad|the) fight|fought)\b")
_LESSON = re.compile(r"\blearned that\b|\blesson\b")
_GOOD = re.compile(r"\b(?:happy|happily|glad|proud|smiled?|laughed|joy)\b")
_BAD = re.compile(r"\b(?:sad|sadly|tears|lonely|unhappy|wept|miserable)\b")
_IGNORED = re.compile(
    r"\bbut \w+ (?:paid no attention|took no notice|did not worry|did not think about (?:it|that))"
)
_BELIEF = re.compile(r"\b(?:was|were) sure that (.+)|\b(?:thought|believed) that (.+)")
_DENIAL = re.compile(r"\bnot (?:.+ )?at all\b")
# Words too common to carry a belief or a detail; three letters and fewer are left out besides.
_COMMON_WORDS = (
    "that this they them their then than there were with without would could should have been had from into "
    "about will what when where which who whom whose more most some somebody nobody everybody something very "
    "just only even also because before after again never always paid attention took notice worry think "
    "both other another each every such same much many over under down here come came went want wanted "
    "began going gone said told asked still until while through around little small"
)
_COMMON = frozenset(_COMMON_WORDS.split())


def has(feature: Feature, story: str) -> bool:
    """Whether a story has a feature."""
    return _CHECKS[feature](sentences(story))


def features_of(story: str) -> tuple[Feature, ...]:
    """The features that a story has, in the order of ``FEATURES``."""
    parts = sentences(story)
    return tuple(feature for feature in FEATURES if _CHECKS[feature](parts))


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its marks; direct speech stays with what introduces it."""
    return [part.strip() for part in _END.split(text) if part.strip()]


def content_words(text: str) -> frozenset[str]:
    """The words of a text that carry meaning: no names, no common words, few short ones."""
    found = _WORD.findall(text)
    return frozenset(w for w in found if len(w) > 3 and w.islower() and w not in _COMMON) | frozenset(
        w for w in found if len(w) == 3 and w in _SHORT
    )


_SHORT = frozenset({"dog", "cat", "fog", "owl", "oak"})  # short nouns that may carry a belief or a detail


def _dialogue(parts: list[str]) -> bool:
    return any(_SPEECH.search(part) for part in parts)


def _conflict(parts: list[str]) -> bool:
    return any(_QUARREL.search(part) and "never" not in part for part in parts)


def _moral(parts: list[str]) -> bool:
    return any(_LESSON.search(part) for part in parts)


def _bad_ending(parts: list[str]) -> bool:
    for part in reversed(parts):
        if _LESSON.search(part):
            continue
        if _BAD.search(part):
            return True
        if _GOOD.search(part):
            return False
    return False


def _foreshadowing(parts: list[str]) -> bool:
    for i, part in enumerate(parts):
        if _IGNORED.search(part):
            known = content_words(" ".join(parts[:i]))
            new = content_words(part) - known
            if new & content_words(" ".join(parts[i + 1 :])):
                return True
    return False


def _twist(parts: list[str]) -> bool:
    believed: set[str] = set()
    for part in parts:
        if believed & content_words(part) and _DENIAL.search(part):
            return True
        for found in _BELIEF.finditer(part):
            believed |= content_words(found[1] or found[2])
    return False


_CHECKS: dict[Feature, Callable[[list[str]], bool]] = {
    "Twist": _twist,
    "Foreshadowing": _foreshadowing,
    "Dialogue": _dialogue,
    "BadEnding": _bad_ending,
    "MoralValue": _moral,
    "Conflict": _conflict,
}
