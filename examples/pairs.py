"""RASP programs in others' style (Weiss et al. 2021; Lindner et al. 2023), as pairs for ``veneer run``.

    veneer run examples/pairs.py:count_a --to examples/pairs.py:count_b --vocabulary a b c --length 4

docs/programs.md has ten such pairs, and what came out.
"""

from tracr.rasp import rasp


def _everything() -> rasp.Selector:
    return rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE)


def _count(token: str) -> rasp.SOp:
    return rasp.SelectorWidth(rasp.Select(rasp.tokens == token, rasp.tokens, lambda key, query: bool(key)))


def _token_at(place: int) -> rasp.SOp:
    there = rasp.Select(rasp.indices, rasp.Map(lambda _: place, rasp.indices), rasp.Comparison.EQ)
    return rasp.Aggregate(there, rasp.tokens)


def length() -> rasp.SOp:
    """How many tokens there are."""
    return rasp.SelectorWidth(_everything())


def count_a() -> rasp.SOp:
    """How many tokens are a."""
    return _count("a")


def count_b() -> rasp.SOp:
    """How many tokens are b."""
    return _count("b")


def histogram() -> rasp.SOp:
    """How often the last token occurs."""
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ))


def smaller() -> rasp.SOp:
    """How many tokens come before the last one in the alphabet."""
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.LT))


def larger() -> rasp.SOp:
    """How many come after it."""
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.GT))


def first() -> rasp.SOp:
    """The first token."""
    return _token_at(0)


def second() -> rasp.SOp:
    """The second token."""
    return _token_at(1)


def before_last() -> rasp.SOp:
    """The token before the last."""
    return rasp.Aggregate(rasp.Select(rasp.indices, rasp.indices - 1, rasp.Comparison.EQ), rasp.tokens)


def is_a() -> rasp.SOp:
    """Whether the last token is a."""
    return rasp.Map(lambda token: token == "a", rasp.tokens)


def is_b() -> rasp.SOp:
    """Whether it is b."""
    return rasp.Map(lambda token: token == "b", rasp.tokens)


def odd_a() -> rasp.SOp:
    """Whether a occurs an odd number of times."""
    return rasp.Map(lambda count: count % 2, _count("a"))


def odd_b() -> rasp.SOp:
    """The same of b."""
    return rasp.Map(lambda count: count % 2, _count("b"))


def two_a() -> rasp.SOp:
    """Whether a occurs twice or more."""
    return rasp.Map(lambda count: count >= 2, _count("a"))


def three_a() -> rasp.SOp:
    """Whether it occurs three times or more."""
    return rasp.Map(lambda count: count >= 3, _count("a"))


def up_to_two_a() -> rasp.SOp:
    """How often a occurs, counted up to two."""
    return rasp.Map(lambda count: min(count, 2), _count("a"))


def up_to_two_b() -> rasp.SOp:
    """How often b occurs, counted up to two."""
    return rasp.Map(lambda count: min(count, 2), _count("b"))


def last() -> rasp.SOp:
    """The last token."""
    return rasp.Map(lambda token: token, rasp.tokens)


def next_letter() -> rasp.SOp:
    """The letter after the last token."""
    return rasp.Map(lambda token: {"a": "b", "b": "c", "c": "a"}[token], rasp.tokens)
