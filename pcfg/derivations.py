"""The tables a sampler draws from: rules by symbol, and all substrings of symbols that have few.

A choice with given probabilities is one table look-up and one comparison (the alias method: Walker
1977, Vose 1991). Exact where the probabilities are multiples of a power of two.
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from veneer.pcfg.grammar import Grammar, Symbol
from veneer.tasks.errors import InputError

_COLUMN_BITS = 15
_FRACTION_BITS = 48
_MOST_TERMINALS = {torch.int8: 127, torch.int16: 32767}


@dataclass(frozen=True)
class Choices:
    """Alias tables of several distributions, one behind the other.

    Attributes:
        offset: where the table of each symbol begins.
        mask: its number of columns, a power of two, less one.
        threshold: fraction of a column, in units of 2^-48, that belongs to ``own``.
        own: alternative of the lower part of a column.
        other: alternative of the rest.
    """

    offset: Int[Tensor, "symbol"]
    mask: Int[Tensor, "symbol"]
    threshold: Int[Tensor, "column"]
    own: Int[Tensor, "column"]
    other: Int[Tensor, "column"]

    def choose(self, symbol: Int[Tensor, "node"], bits: Int[Tensor, "node"]) -> Int[Tensor, "node"]:
        """An alternative for every symbol, from 64 random bits each."""
        column = (bits >> _FRACTION_BITS) & self.mask.index_select(0, symbol)
        column += self.offset.index_select(0, symbol)
        fraction = bits & ((1 << _FRACTION_BITS) - 1)
        below = fraction < self.threshold.index_select(0, column)
        return torch.where(below, self.own.index_select(0, column), self.other.index_select(0, column))

    def to(self, device: torch.device) -> "Choices":
        """The tables on another device."""
        return Choices(
            *(x.to(device) for x in (self.offset, self.mask, self.threshold, self.own, self.other))
        )


@dataclass(frozen=True)
class Tables:
    """A grammar for the sampler. Symbols are numbered, those drawn as a whole before the others.

    Attributes:
        start: number of the start symbol.
        whole: how many symbols are drawn as a whole.
        shortest: length of the shortest string of each symbol.
        rules: choice of a rule by symbol; a symbol drawn as a whole chooses the "rule" of itself.
        children: symbols on each rule's right-hand side, -1 behind the last.
        pieces: choice of a piece (a string) by symbol drawn as a whole.
        begin: where each piece begins in ``tokens``.
        size: its length.
        tokens: the pieces one after another, as indices of terminals.
        piece_uses: how often each production was used in a piece's derivation.
    """

    start: int
    whole: int
    shortest: Int[Tensor, "symbol"]
    rules: Choices
    children: Int[Tensor, "rule child"]
    pieces: Choices
    begin: Int[Tensor, "piece"]
    size: Int[Tensor, "piece"]
    tokens: Int[Tensor, "token"]
    piece_uses: Int[Tensor, "piece production"]


@dataclass(frozen=True)
class _Derivations:
    """All derivations of a symbol: their strings, probabilities and rules."""

    strings: list[tuple[int, ...]]
    probabilities: np.ndarray
    uses: np.ndarray


def tables(grammar: Grammar, largest_table: int) -> Tables:
    """Number the symbols and lay out all choices.

    Raises:
        InputError: a table larger than 2^15, or more terminals or rules than the tables can hold.
    """
    if not 1 <= largest_table <= 1 << _COLUMN_BITS:
        raise InputError("largest_table", largest_table, f"1 to {1 << _COLUMN_BITS}")
    whole = _drawn_as_whole(grammar, largest_table)
    expanded = [x for x in grammar.nonterminals if x not in whole]
    symbols = [*_leaves(grammar, whole), *(x for x in expanded)]
    number = {symbol: i for i, symbol in enumerate(symbols)}
    leaves = len(symbols) - len(expanded)
    derivations = _derivations(grammar, symbols[:leaves])
    strings = [string for entry in derivations for string in entry.strings]
    sizes = torch.tensor([len(string) for string in strings])
    rules, children = _rules(grammar, symbols, leaves, number)
    shortest = _shortest(grammar)
    dtype = next((d for d, most in _MOST_TERMINALS.items() if len(grammar.terminals) <= most), None)
    if dtype is None:
        raise InputError(
            "grammar", grammar.name, "at most 32767 terminals", f"{len(grammar.terminals)} terminals"
        )
    return Tables(
        start=number[grammar.start],
        whole=leaves,
        shortest=torch.tensor([shortest[symbol] for symbol in symbols]),
        rules=rules,
        children=children,
        pieces=_choices([entry.probabilities for entry in derivations]),
        begin=sizes.cumsum(0) - sizes,
        size=sizes,
        tokens=torch.tensor([x for string in strings for x in string], dtype=dtype),
        piece_uses=torch.from_numpy(np.concatenate([entry.uses for entry in derivations])),
    )


def _drawn_as_whole(grammar: Grammar, largest: int) -> set[Symbol]:
    """Terminals, and nonterminals without recursion that have few derivations."""
    steps = grammar.mean_children > 0
    for _ in grammar.nonterminals:
        steps = steps | (steps.astype(int) @ steps.astype(int) > 0)
    recursive = {
        symbol for symbol, again in zip(grammar.nonterminals, steps.diagonal(), strict=True) if again
    }

    @cache
    def count(symbol: Symbol) -> float:
        if isinstance(symbol, str):
            return 1.0
        if symbol in recursive:
            return math.inf
        ours = [rule for rule in grammar.productions if rule.lhs() == symbol]
        return float(sum(math.prod(count(child) for child in rule.rhs()) for rule in ours))

    everything: list[Symbol] = [*grammar.terminals, *grammar.nonterminals]
    single = {symbol for symbol in grammar.nonterminals if largest == 1}
    return {symbol for symbol in everything if count(symbol) <= largest} - single


def _leaves(grammar: Grammar, whole: set[Symbol]) -> list[Symbol]:
    """Those drawn as a whole that some expanded symbol has as a child, or the start itself."""
    children = [
        x for rule in grammar.productions if rule.lhs() not in whole for x in rule.rhs() if x in whole
    ]
    return list(dict.fromkeys(children)) or [grammar.start]


def _derivations(grammar: Grammar, symbols: list[Symbol]) -> list[_Derivations]:
    terminal = {symbol: i for i, symbol in enumerate(grammar.terminals)}
    none = np.zeros((1, len(grammar.productions)), dtype=np.int32)

    @cache
    def of(symbol: Symbol) -> _Derivations:
        if isinstance(symbol, str):
            return _Derivations([(terminal[symbol],)], np.ones(1), none)
        strings: list[tuple[int, ...]] = []
        probabilities, uses = [], []
        for i, rule in enumerate(grammar.productions):
            if rule.lhs() != symbol:
                continue
            chance, used = np.full(1, rule.prob()), none.copy()
            used[0, i] = 1
            for child in map(of, rule.rhs()):
                chance = np.multiply.outer(chance, child.probabilities).ravel()
                used = (used[:, None] + child.uses).reshape(len(chance), -1)
            strings += [sum(parts, ()) for parts in product(*(of(child).strings for child in rule.rhs()))]
            probabilities.append(chance)
            uses.append(used)
        return _Derivations(strings, np.concatenate(probabilities), np.concatenate(uses))

    return [of(symbol) for symbol in symbols]


def _rules(
    grammar: Grammar, symbols: list[Symbol], leaves: int, number: dict[Symbol, int]
) -> tuple[Choices, Int[Tensor, "rule child"]]:
    """Rules are numbered as the grammar's productions; behind them, every leaf's rule of itself."""
    own = {
        symbol: [i for i, r in enumerate(grammar.productions) if r.lhs() == symbol]
        for symbol in symbols[leaves:]
    }
    widest = max(len(rule.rhs()) for rule in grammar.productions)
    children = torch.full((len(grammar.productions) + leaves, widest), -1, dtype=torch.int32)
    for indices in own.values():
        for i in indices:
            right = grammar.productions[i].rhs()
            children[i, : len(right)] = torch.tensor([number[child] for child in right], dtype=torch.int32)
    children[len(grammar.productions) :, 0] = torch.arange(leaves)
    alternatives = [[len(grammar.productions) + i] for i in range(leaves)] + list(own.values())
    probabilities = [np.ones(1)] * leaves + [
        np.array([grammar.productions[i].prob() for i in indices]) for indices in own.values()
    ]
    return _choices(probabilities, alternatives), children


def _shortest(grammar: Grammar) -> dict[Symbol, int]:
    length: dict[Symbol, float] = {x: 1 for x in grammar.terminals} | {
        x: math.inf for x in grammar.nonterminals
    }
    for _ in grammar.nonterminals:
        for rule in grammar.productions:
            length[rule.lhs()] = min(length[rule.lhs()], sum(length[child] for child in rule.rhs()))
    return {symbol: int(value) for symbol, value in length.items()}


def _choices(distributions: list[np.ndarray], alternatives: list[list[int]] | None = None) -> Choices:
    """Alias tables of several distributions, whose alternatives are numbered on unless given."""
    offset, mask, threshold, own, other = [], [], [], [], []
    columns = first = 0
    for i, probabilities in enumerate(distributions):
        count = len(probabilities)
        names = np.arange(first, first + count) if alternatives is None else np.array(alternatives[i])
        fraction, alias = _alias(probabilities / probabilities.sum())
        offset.append(columns)
        mask.append(len(fraction) - 1)
        threshold.append(np.rint(fraction * 2.0**_FRACTION_BITS).astype(np.int64))
        own.append(names[np.minimum(np.arange(len(fraction)), count - 1)])
        other.append(names[alias])
        columns += len(fraction)
        first += count
    stacked = (torch.from_numpy(np.concatenate(x).astype(np.int64)) for x in (threshold, own, other))
    limit, own_names, other_names = stacked
    return Choices(torch.tensor(offset), torch.tensor(mask), limit, own_names, other_names)


def _alias(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vose's table over a power of two of columns: each one's own fraction and its other alternative."""
    columns = 1 << (len(probabilities) - 1).bit_length()
    if columns > 1 << (64 - _FRACTION_BITS):
        raise InputError(
            "rules", len(probabilities), f"at most {1 << (64 - _FRACTION_BITS)} rules for one symbol"
        )
    fraction = np.zeros(columns)
    fraction[: len(probabilities)] = probabilities * columns
    alias = np.minimum(np.arange(columns), len(probabilities) - 1)
    small = [i for i in range(columns) if fraction[i] < 1]
    large = [i for i in range(columns) if fraction[i] > 1]
    while small and large:
        poor, rich = small.pop(), large[-1]
        alias[poor] = rich
        fraction[rich] -= 1 - fraction[poor]
        if fraction[rich] <= 1:
            large.pop()
            if fraction[rich] < 1:
                small.append(rich)
    for i in small + large:  # what rounding left over
        if i < len(probabilities):
            fraction[i] = 1.0
    return fraction, alias
