"""What a grammar's strings are like on average, without sampling any.

Expectations are those of a multitype branching process (Harris 1963, "The Theory of Branching
Processes", ch. II): with M the mean matrix of nonterminals, (I - M)^-1 counts a nonterminal's
descendants. The distribution of lengths is the fixed point of the rules' generating functions.
"""

import numpy as np
from jaxtyping import Float

from veneer.pcfg.grammar import CRITICAL, Grammar
from veneer.tasks.errors import InputError


def expected_length(grammar: Grammar) -> float:
    """Expected number of terminals in a string, without regard to ``max_length``.

    Raises:
        InputError: a grammar whose expected length is infinite.
    """
    return float(_mean_lengths(grammar)[grammar.nonterminals.index(grammar.start)])


def length_variance(grammar: Grammar) -> float:
    """Variance of the number of terminals, without regard to ``max_length``.

    By the law of total variance, V = w + M V, where w is the variance, over a symbol's rules, of the
    expected length of the rule's children.

    Raises:
        InputError: a grammar whose expected length is infinite.
    """
    mean = dict(zip(grammar.nonterminals, _mean_lengths(grammar), strict=True))
    within = {parent: -(value**2) for parent, value in mean.items()}
    for rule in grammar.productions:
        total = sum(1.0 if isinstance(x, str) else mean[x] for x in rule.rhs())
        within[rule.lhs()] += (rule.prob() or 0.0) * total**2
    start = grammar.nonterminals.index(grammar.start)
    return float((_descendants(grammar) @ np.array([within[p] for p in grammar.nonterminals]))[start])


def expected_rule_uses(grammar: Grammar) -> Float[np.ndarray, "rule"]:
    """Expected uses of every rule in one string, in the order of ``grammar.productions``.

    Raises:
        InputError: a grammar whose expected length is infinite.
    """
    uses = _descendants(grammar)[grammar.nonterminals.index(grammar.start)]
    row = {parent: i for i, parent in enumerate(grammar.nonterminals)}
    return np.array([uses[row[rule.lhs()]] * rule.prob() for rule in grammar.productions])


def expected_terminals(grammar: Grammar) -> Float[np.ndarray, "terminal"]:
    """Expected number of every terminal in one string, in the order of ``grammar.terminals``.

    Raises:
        InputError: a grammar whose expected length is infinite.
    """
    uses = _descendants(grammar)[grammar.nonterminals.index(grammar.start)]
    return uses @ grammar.mean_terminals


def length_distribution(grammar: Grammar, up_to: int) -> Float[np.ndarray, "length"]:
    """Probability of every string length from 0 to ``up_to``, without regard to ``max_length``.

    The generating functions are iterated, truncated at ``up_to``, until they no longer move: as
    often as the derivations are deep, so exactly for a grammar without recursion.
    """
    one = np.zeros(up_to + 1)
    one[min(1, up_to)] = float(up_to >= 1)
    known = {parent: np.zeros(up_to + 1) for parent in grammar.nonterminals}
    while True:
        new = {parent: np.zeros(up_to + 1) for parent in grammar.nonterminals}
        for rule in grammar.productions:
            product = np.full(1, rule.prob())
            for child in rule.rhs():
                factor = one if isinstance(child, str) else known[child]
                product = np.convolve(product, factor)[: up_to + 1]
            new[rule.lhs()] += product
        if all(np.abs(new[p] - known[p]).max() < 1e-15 for p in known):
            return new[grammar.start]
        known = new


def _descendants(grammar: Grammar) -> Float[np.ndarray, "ancestor nonterminal"]:
    if grammar.spectral_radius >= CRITICAL:
        valid = "a grammar whose mean matrix has a spectral radius below 1"
        raise InputError(
            "grammar", grammar.name, valid, f"infinite expected length ({grammar.spectral_radius:.6g})"
        )
    return np.linalg.inv(np.eye(len(grammar.nonterminals)) - grammar.mean_children)


def _mean_lengths(grammar: Grammar) -> Float[np.ndarray, "nonterminal"]:
    return _descendants(grammar) @ grammar.mean_terminals.sum(1)
