"""Grammars that could not be sampled are refused with the reason, and moments agree with enumeration."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from nltk.grammar import PCFG

from veneer.pcfg.grammar import Grammar
from veneer.pcfg.grammars import GRAMMARS, balanced_random_grammar, grammar
from veneer.pcfg.moments import (
    expected_length,
    expected_rule_uses,
    expected_terminals,
    length_distribution,
    length_variance,
)
from veneer.tasks.errors import InputError

SMALL = """
S -> A B [0.5] | B 'c' [0.25] | A [0.25]
A -> 'a' [0.125] | 'a' 'b' [0.875]
B -> 'b' [0.7] | A A [0.3]
"""
RECURSIVE = "S -> 'a' S 'b' [0.3] | 'c' S [0.2] | 'a' [0.5]"


def enumerated(text: str) -> dict[str, float]:
    """Probability of every string of ``SMALL``, worked out by substitution and not with the package."""
    assert text == SMALL
    a = {"a": 0.125, "ab": 0.875}
    b = {"b": 0.7}
    for x, y in product(a, a):
        b[x + y] = b.get(x + y, 0) + 0.3 * a[x] * a[y]
    strings: dict[str, float] = {}
    for x, y in product(a, b):
        strings[x + y] = strings.get(x + y, 0) + 0.5 * a[x] * b[y]
    for y in b:
        strings[y + "c"] = strings.get(y + "c", 0) + 0.25 * b[y]
    for x in a:
        strings[x] = strings.get(x, 0) + 0.25 * a[x]
    return strings


def test_the_papers_strings_average_about_276_tokens() -> None:
    assert expected_length(grammar("jain2024")) == pytest.approx(276, abs=0.5)


def test_the_papers_grammar_is_layered_and_names_its_symbols_as_the_paper() -> None:
    jain = grammar("jain2024")
    assert str(jain.start) == "s"
    assert jain.terminals == ("a", "b", "c")
    assert {str(x) for x in jain.nonterminals} == set("srqponmlkjihgfed")
    assert len(jain.productions) == 32
    assert jain.spectral_radius == 0


def test_moments_are_those_of_all_strings() -> None:
    strings = enumerated(SMALL)
    assert sum(strings.values()) == pytest.approx(1)
    small = Grammar.from_text(SMALL, "small")
    mean = sum(p * len(x) for x, p in strings.items())
    assert expected_length(small) == pytest.approx(mean)
    assert length_variance(small) == pytest.approx(sum(p * (len(x) - mean) ** 2 for x, p in strings.items()))
    counts = [sum(p * x.count(letter) for x, p in strings.items()) for letter in "abc"]
    np.testing.assert_allclose(expected_terminals(small), counts)
    lengths = [sum(p for x, p in strings.items() if len(x) == n) for n in range(7)]
    np.testing.assert_allclose(length_distribution(small, 6), lengths, atol=1e-15)


def test_moments_of_a_recursive_grammar_are_those_of_its_length_distribution() -> None:
    recursive = Grammar.from_text(RECURSIVE, "recursive")
    probability = length_distribution(recursive, 400)
    n = np.arange(401)
    assert probability.sum() == pytest.approx(1)
    assert expected_length(recursive) == pytest.approx(probability @ n)
    assert length_variance(recursive) == pytest.approx(probability @ n**2 - (probability @ n) ** 2)
    # S is used 1 / (1 - 0.5) = 2 times on average: each use goes on with probability 0.5.
    np.testing.assert_allclose(expected_rule_uses(recursive), [0.6, 0.4, 1.0])


def test_string_probabilities_are_those_of_enumeration() -> None:
    small = Grammar.from_text(SMALL, "small")
    for string, probability in enumerated(SMALL).items():
        assert small.probability(list(string)) == pytest.approx(probability)
        assert small.contains(list(string))


@pytest.mark.parametrize("string", ["", "c", "ba", "abcc", "x"])
def test_strings_outside_the_language_are_not_members(string: str) -> None:
    small = Grammar.from_text(SMALL, "small")
    assert not small.contains(list(string))
    assert small.probability(list(string)) == 0
    assert small.best_parse(list(string)) is None


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_grammar_survives_its_own_text_and_nltk(name: str) -> None:
    first = grammar(name)
    assert Grammar.from_text(first.text, name) == first
    assert Grammar.from_nltk(PCFG.fromstring(first.text), name) == first
    assert hash(Grammar.from_text(first.text, name)) == hash(first)


def test_a_grammar_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "small.pcfg"
    path.write_text(SMALL)
    assert Grammar.from_file(path) == Grammar.from_text(SMALL, "small")
    with pytest.raises(InputError, match="grammar file"):
        Grammar.from_file(tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No productions"),
        ("S -> 'a' [1.0]\nS 'b'", "line 2, column 3.*arrow"),
        ("S -> 'a' [0.5", "line 1, column 10"),
        ("S -> 'a' 'b [1.0]", "line 1, column 10.*quotation"),
        ("S -> 'a' [1.5]", "line 1, column 10.*at most 1"),
        ("  S -> 'a' [1.0.0]", "line 1, column 12"),
        ("# text\nS -> 'a' [0.5] | \\\n   'b' $ [0.5]", "line 3, column 8"),
        ("%begin S\nS -> 'a' [1.0]", "line 1, column 1.*start"),
        ("%start X\nS -> 'a' [1.0]", "start = 'X'"),
        ("S -> 'a' [1.0]\nB -> 'b' [1.0]", "unreachable: B"),
        ("S -> 'a' [0.5] | B [0.5]", "unproductive: B"),
        ("S -> 'a' [0.5] | B [0.5]\nB -> B 'b' [1.0]", "unproductive: B"),
        ("S -> 'a' [0.5] | 'b' [0.4]", "= 0.9: sum for S"),
        ("S -> 'a' [0.999] | 'b' [0.005]", "= 1.004: sum for S"),
        ("S -> 'a' [0.5] | 'b' [0.5] | 'c' [0.0]", "probability above 0"),
        ("S -> 'a' [0.5] | [0.5]", "empty"),
        ("S -> 'a' S S [0.5] | 'a' [0.5]", r"spectral radius of the mean matrix 1 >= 1"),
        ("S -> 'a' S S [0.6] | 'a' [0.4]", r"spectral radius of the mean matrix 1\.2 >= 1"),
        ("S -> T 'a' [0.4] | 'a' [0.6]\nT -> S [1.0]", "left recursion"),
    ],
)
def test_a_faulty_grammar_is_refused_with_its_fault(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Grammar.from_text(text, "faulty")


@pytest.mark.parametrize("terminal", ["''", '""', "' '"])
def test_an_empty_terminal_is_called_so(terminal: str) -> None:
    with pytest.raises(InputError, match="a terminal is empty") as refused:
        Grammar.from_text(f"S -> 'a' [0.5] | {terminal} [0.5]", "faulty")
    assert 'rule = "S -> ' in str(refused.value) or "rule = 'S -> " in str(refused.value)


def test_a_longest_length_admits_recursion() -> None:
    for text in ("S -> 'a' S S [0.6] | 'a' [0.4]", "S -> S 'a' [0.4] | 'a' [0.6]"):
        assert Grammar.from_text(text, "capped", max_length=9).max_length == 9
    with pytest.raises(InputError, match="max_length"):
        Grammar.from_text(RECURSIVE, "capped", max_length=0)
    with pytest.raises(InputError, match="infinite"):
        expected_length(Grammar.from_text("S -> 'a' S S [0.6] | 'a' [0.4]", "capped", max_length=9))


def test_unknown_grammars_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="jain2024, deep, ambiguous"):
        grammar("cfg")


def test_a_balanced_grammar_has_the_shape_asked_for() -> None:
    made = balanced_random_grammar(4, (2, 3), "abcd", seed=3, symbols=5, rules=3)
    assert len(made.nonterminals) == 1 + 3 * 5
    assert len(made.productions) == 3 * len(made.nonterminals)
    assert {len(rule.rhs()) for rule in made.productions} == {2, 3}
    assert made.terminals == ("a", "b", "c", "d")
    level = {made.start: 0}
    for rule in made.productions:  # parents stand before their children
        for child in rule.rhs():
            assert level.setdefault(child, level[rule.lhs()] + 1) == level[rule.lhs()] + 1
    assert {level[x] for x in made.terminals} == {4}
    assert made == balanced_random_grammar(4, (2, 3), "abcd", seed=3, symbols=5, rules=3)
    assert made != balanced_random_grammar(4, (2, 3), "abcd", seed=4, symbols=5, rules=3)


@pytest.mark.parametrize(
    "wrong",
    [{"depth": 0}, {"fan_out": (3, 2)}, {"fan_out": (0, 2)}, {"terminals": ""}, {"rules": 0}, {"rules": 100}],
)
def test_a_balanced_grammar_needs_possible_sizes(wrong: dict) -> None:
    sizes = {"depth": 3, "fan_out": (2, 3), "terminals": "abc", "seed": 0}
    with pytest.raises(InputError):
        balanced_random_grammar(**(sizes | wrong))
