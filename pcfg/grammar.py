"""A probabilistic context-free grammar as a frozen value around ``nltk.PCFG``, checked when made.

Reading, printing and parsing are NLTK's. What is added is the refusal of grammars that a sampler
could not use, and the closed-form moments of a multitype branching process (Harris 1963, ch. II):
expected length, its variance, and expected uses of every rule and terminal. The grammar of Jain et
al. 2024 (Fig. 14) and others are in ``veneer.pcfg.grammars``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from veneer.tasks.errors import InputError

if (
    TYPE_CHECKING
):  # importing nltk loads scipy, and scikit-learn where there is one: a third of a command's start
    from nltk.grammar import PCFG, Nonterminal, ProbabilisticProduction
    from nltk.tree import ProbabilisticTree

    Symbol = Nonterminal | str
else:
    Symbol = object

SUM_TOLERANCE = 1e-6
CAP = "a longest string length in terminals, such as --max-length 100"
CRITICAL = 1 - 1e-9  # spectral radius from which the expected length counts as infinite

_PARENT = re.compile(r"\s*[\w/][\w/^<>-]*\s*")
_ARROW = re.compile(r"->\s*")
_CHILD = re.compile(r"""(\[[\d.]+\]|"[^"]*"|'[^']*'|\||[\w/][\w/^<>-]*)\s*""")


@dataclass(frozen=True)
class Grammar:
    """Rules with probabilities and a start symbol; strings are sequences of terminals.

    Attributes:
        name: names the grammar in reports and in the streams of data drawn from it.
        start: the start symbol.
        productions: NLTK's productions, the probabilities of a parent summing to 1.
        max_length: longest string, in terminals; longer ones are drawn again, so the distribution
            is the grammar's conditional on this length. None: no limit. Needed where the expected
            length is infinite or the grammar is left-recursive.

    Raises:
        InputError: no start, symbols that cannot be reached or cannot become a string, an empty
            right-hand side, probabilities outside (0, 1] or that do not sum to 1, an infinite
            expected length or left recursion without ``max_length``.
    """

    name: str
    start: "Nonterminal"
    productions: "tuple[ProbabilisticProduction, ...]"
    max_length: int | None = None

    def __post_init__(self) -> None:
        _check_rules(self.name, self.productions)
        _check_symbols(self)
        _check_length(self)

    @staticmethod
    def from_text(text: str, name: str, max_length: int | None = None) -> "Grammar":
        """Read NLTK's notation, e.g. ``S -> A B [0.5] | 'a' [0.5]``; the first parent is the start.

        Raises:
            InputError: a line that is no rule (its line and column are given), and all that the
                class itself refuses.
        """
        from nltk.grammar import PCFG

        try:
            pcfg = PCFG.fromstring(text)
        except ValueError as error:
            raise _syntax_error(text, name, error) from error
        return Grammar.from_nltk(pcfg, name, max_length)

    @staticmethod
    def from_file(path: str | Path, name: str | None = None, max_length: int | None = None) -> "Grammar":
        """Read a text file in NLTK's notation; the name defaults to the file's stem.

        Raises:
            InputError: a file that cannot be read as UTF-8, and all that ``from_text`` refuses.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                "grammar file", str(path), "a readable text file in UTF-8", str(error)
            ) from error
        return Grammar.from_text(text, name or path.stem, max_length)

    @staticmethod
    def from_nltk(pcfg: "PCFG", name: str, max_length: int | None = None) -> "Grammar":
        """Take over an NLTK grammar."""
        return Grammar(name, pcfg.start(), tuple(pcfg.productions()), max_length)

    @cached_property
    def pcfg(self) -> "PCFG":
        """The grammar as NLTK's object."""
        from nltk.grammar import PCFG

        return PCFG(self.start, list(self.productions))

    @cached_property
    def text(self) -> str:
        """The grammar in NLTK's notation, one rule a line; ``from_text`` reads it back."""
        lines = [f"%start {self.start}"]
        for rule in self.productions:
            children = " ".join(repr(x) if isinstance(x, str) else str(x) for x in rule.rhs())
            probability = f"{rule.prob():.17f}".rstrip("0")
            lines.append(f"{rule.lhs()} -> {children} [{probability}]")
        return "\n".join(lines)

    @cached_property
    def nonterminals(self) -> "tuple[Nonterminal, ...]":
        """Parents in the order of their first rule."""
        return tuple(dict.fromkeys(rule.lhs() for rule in self.productions))

    @cached_property
    def terminals(self) -> tuple[str, ...]:
        """Terminals in sorted order: the indices that a sampler gives."""
        return tuple(sorted({x for rule in self.productions for x in rule.rhs() if isinstance(x, str)}))

    @cached_property
    def mean_children(self) -> Float[np.ndarray, "parent child"]:
        """Expected number of each nonterminal among the children of each nonterminal."""
        return _mean_counts(self, self.nonterminals)

    @cached_property
    def mean_terminals(self) -> Float[np.ndarray, "parent terminal"]:
        """Expected number of each terminal among the children of each nonterminal."""
        return _mean_counts(self, self.terminals)

    @cached_property
    def spectral_radius(self) -> float:
        """Largest modulus among the eigenvalues of ``mean_children``; strings stay finite below 1.

        Taken over the strongly connected components, since the eigenvalues of a matrix without
        cycles are all 0 but numerically far from it.
        """
        from scipy.sparse.csgraph import connected_components

        count, component = connected_components(self.mean_children, connection="strong")
        members = [np.flatnonzero(component == i) for i in range(count)]
        blocks = [self.mean_children[np.ix_(inside, inside)] for inside in members]
        return max(float(np.abs(np.linalg.eigvals(block)).max()) for block in blocks)

    @cached_property
    def is_left_recursive(self) -> bool:
        """Whether some nonterminal can begin with itself."""
        first: dict[Nonterminal, set[Nonterminal]] = {parent: set() for parent in self.nonterminals}
        for rule in self.productions:
            if not isinstance(rule.rhs()[0], str):
                first[rule.lhs()].add(rule.rhs()[0])
        for _ in self.nonterminals:
            for reached in first.values():
                reached |= {deeper for symbol in reached for deeper in first[symbol]}
        return any(parent in reached for parent, reached in first.items())

    def contains(self, tokens: Sequence[str]) -> bool:
        """Whether the grammar makes this string (NLTK's chart parser; cubic in its length)."""
        from nltk.parse import ChartParser

        if not tokens or not set(tokens) <= set(self.terminals):
            return False
        if self.max_length is not None and len(tokens) > self.max_length:
            return False
        return next(iter(ChartParser(self.pcfg).parse(list(tokens))), None) is not None

    def probability(self, tokens: Sequence[str]) -> float:
        """Probability of a string without regard to ``max_length``: the sum over its parses.

        NLTK's inside chart parser lists the parses one by one, so this is for short strings.
        """
        from nltk.parse.pchart import InsideChartParser

        if not tokens or not set(tokens) <= set(self.terminals):
            return 0.0
        return float(sum(tree.prob() for tree in InsideChartParser(self.pcfg).parse(list(tokens))))

    def best_parse(self, tokens: Sequence[str]) -> "ProbabilisticTree | None":
        """The most probable parse (NLTK's Viterbi parser), None for a string that has none."""
        from nltk.parse.viterbi import ViterbiParser

        if not tokens or not set(tokens) <= set(self.terminals):
            return None
        return next(iter(ViterbiParser(self.pcfg).parse(list(tokens))), None)


def _mean_counts(grammar: Grammar, symbols: Sequence[Symbol]) -> Float[np.ndarray, "parent symbol"]:
    rows = {parent: i for i, parent in enumerate(grammar.nonterminals)}
    columns = {symbol: i for i, symbol in enumerate(symbols)}
    mean = np.zeros((len(rows), len(columns)))
    for rule in grammar.productions:
        for child in rule.rhs():
            if child in columns:
                mean[rows[rule.lhs()], columns[child]] += rule.prob()
    return mean


def _syntax_error(text: str, name: str, error: ValueError) -> InputError:
    """NLTK's complaint as an InputError with line and column."""
    found = re.match(r"Unable to parse line (\d+): ", str(error))
    if found is None:
        total = re.match(r"Productions for (\S+) do not sum to 1", str(error))
        if total is None:
            return InputError("grammar", name, "at least one rule, such as S -> 'a' [1.0]", str(error))
        parent, probabilities = total.group(1), _stated_sum(text, total.group(1))
        return InputError(
            "probabilities", probabilities, f"a sum of 1 over the rules of {parent}", f"sum for {parent}"
        )
    line, column, problem = _first_fault(text.split("\n"), int(found.group(1)))
    where = f"grammar {name}, line {line}, column {column}"
    return InputError(
        where, text.split("\n")[line - 1].strip(), "rules such as S -> A 'b' [0.5] | 'c' [0.5]", problem
    )


def _stated_sum(text: str, parent: str) -> float:
    """The sum that a parent's probabilities have in a text that NLTK can split into rules."""
    total = 0.0
    for line in text.replace("\\\n", " ").split("\n"):
        if line.split("->")[0].strip() == parent:
            unquoted = re.sub(r"""'[^']*'|"[^"]*\"""", "", line)
            total += sum(float(p) for p in re.findall(r"\[([\d.]+)\]", unquoted))
    return total


def _first_fault(lines: Sequence[str], last: int) -> tuple[int, int, str]:
    """Line, column (both from 1) and description of the fault in the rule that ends in line ``last``."""
    first = last
    while first > 1 and lines[first - 2].rstrip().endswith("\\"):
        first -= 1
    rule = ""
    starts: list[tuple[int, int, int]] = []  # offset in the joined rule, line, columns of indentation
    for number in range(first, last + 1):
        line = lines[number - 1]
        starts.append((len(rule), number, len(line) - len(line.lstrip())))
        rule += line.strip() if number == last else line.strip()[:-1].rstrip() + " "
    offset, problem = _fault_in_rule(rule)
    start, number, indent = max(entry for entry in starts if entry[0] <= offset)
    return number, offset - start + indent + 1, problem


def _fault_in_rule(rule: str) -> tuple[int, str]:
    """Offset and description of the first place at which a text is no rule."""
    if rule.startswith("%"):
        return 0, "the only directive is %start, followed by one nonterminal"
    parent = _PARENT.match(rule)
    if parent is None:
        return 0, "a nonterminal is expected"
    arrow = _ARROW.match(rule, parent.end())
    if arrow is None:
        return parent.end(), "an arrow '->' is expected"
    position = arrow.end()
    while position < len(rule):
        child = _CHILD.match(rule, position)
        if child is None:
            quote = rule[position] in "'\""
            return (
                position,
                "the quotation does not end" if quote else "a symbol, [probability] or | is expected",
            )
        if child.group(1)[0] == "[" and not _is_probability(child.group(1)[1:-1]):
            return position, "a probability is a decimal number of at most 1"
        position = child.end()
    return 0, "not a rule"


def _is_probability(text: str) -> bool:
    try:
        return float(text) <= 1
    except ValueError:
        return False


def _check_rules(name: str, productions: "Sequence[ProbabilisticProduction]") -> None:
    if not productions:
        raise InputError("grammar", name, "at least one rule")
    total: dict[Nonterminal, float] = {}
    for rule in productions:
        if not rule.rhs():
            raise InputError("rule", str(rule), "a right-hand side of one or more symbols", "it is empty")
        if any(isinstance(symbol, str) and not symbol.strip() for symbol in rule.rhs()):
            raise InputError("rule", str(rule), "terminals of one or more letters", "a terminal is empty")
        probability = rule.prob() or 0.0
        if not 0 < probability <= 1:
            raise InputError("rule", str(rule), "a probability above 0 and up to 1", "none given, or outside")
        total[rule.lhs()] = total.get(rule.lhs(), 0.0) + probability
    for parent, value in total.items():
        if abs(value - 1) > SUM_TOLERANCE:
            raise InputError(
                "probabilities", value, f"a sum of 1 over the rules of {parent}", f"sum for {parent}"
            )


def _check_symbols(grammar: Grammar) -> None:
    parents = set(grammar.nonterminals)
    if grammar.start not in parents:
        raise InputError("start", str(grammar.start), "a symbol that has rules", "it has none")
    children = {p: {x for r in grammar.productions if r.lhs() == p for x in r.rhs()} for p in parents}
    reached, front = {grammar.start}, [grammar.start]
    while front:
        new = {x for x in children.get(front.pop(), ()) if not isinstance(x, str)} - reached
        reached |= new
        front.extend(new)
    finite: set[Nonterminal] = set()
    for _ in parents:
        finite |= {
            r.lhs() for r in grammar.productions if all(x in finite or isinstance(x, str) for x in r.rhs())
        }
    everything = parents | reached
    for fault, symbols in (("unreachable", parents - reached), ("unproductive", everything - finite)):
        if symbols:
            names = ", ".join(sorted(map(str, symbols)))
            raise InputError(
                "grammar", grammar.name, "symbols that occur in some string", f"{fault}: {names}"
            )


def _check_length(grammar: Grammar) -> None:
    if grammar.max_length is not None:
        if grammar.max_length < 1:
            raise InputError("max_length", grammar.max_length, "1 or more terminals")
        return
    if grammar.spectral_radius >= CRITICAL:
        problem = (
            f"strings of {grammar.name} have infinite expected length "
            f"(spectral radius of the mean matrix {grammar.spectral_radius:.6g} >= 1)"
        )
        raise InputError("max_length", None, CAP, problem)
    if grammar.is_left_recursive:
        raise InputError("max_length", None, CAP, f"left recursion in {grammar.name}")
