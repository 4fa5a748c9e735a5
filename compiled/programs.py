"""The paper's two RASP programs (Jain et al. 2024, App. B.1, Alg. 1 and 2) and a variant.

Importing this module imports Tracr. The answer of Alg. 1 and 2 is read at index 1: they compare
booleans with indices by equality, and True == 1, so only the query at index 1 selects the True keys.
"""

from tracr.rasp import rasp

ANSWER_INDEX = 1


def counter(operand: str) -> rasp.SOp:
    """How often the operand occurs, at index 1 (Alg. 1)."""
    is_target = (rasp.tokens == operand).named("is_target")
    targets = rasp.Select(is_target, rasp.indices, rasp.Comparison.EQ).named("targets")
    return _moved_nowhere(rasp.SelectorWidth(targets).named("count"))


def counter_everywhere(operand: str) -> rasp.SOp:
    """How often the operand occurs, at every index: Alg. 1 with targets selected by all queries."""
    is_target = (rasp.tokens == operand).named("is_target")
    targets = rasp.Select(is_target, rasp.indices, lambda key, query: bool(key)).named("targets")
    return _moved_nowhere(rasp.SelectorWidth(targets).named("count"))


def max_identifier(rank: int) -> rasp.SOp:
    """The token of a rank (1 = first) in ascending order, at index 1, if tokens differ (Alg. 2)."""
    smaller = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.LT).named("smaller")
    is_ranked = (rasp.SelectorWidth(smaller).named("order") == rank - 1).named("is_ranked")
    ranked = rasp.Select(is_ranked, rasp.indices, rasp.Comparison.EQ).named("ranked")
    return rasp.Aggregate(ranked, rasp.tokens).named("answer")


def _moved_nowhere(values: rasp.SOp) -> rasp.SOp:
    """An aggregate through the identity selector, with which Alg. 1 ends."""
    same_place = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.EQ).named("same_place")
    return rasp.Aggregate(same_place, values).named("answer")
