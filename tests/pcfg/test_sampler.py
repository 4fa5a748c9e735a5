"""The sampler draws what the grammar says: against NLTK in plain Python and against closed forms."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chi2, chi2_contingency, chisquare, norm

from benchmarks.pcfg_sampler import NltkSampler
from veneer.pcfg import sampler
from veneer.pcfg.grammar import Grammar
from veneer.pcfg.grammars import GRAMMARS, grammar
from veneer.pcfg.moments import expected_length, expected_rule_uses, expected_terminals, length_distribution
from veneer.pcfg.sampler import Sampler, Strings
from veneer.tasks.errors import InputError

KEYS = torch.tensor([11, -5, 2**40])
LEAST_P = 1e-4  # the keys are fixed, so a test that passes goes on passing

UNEVEN = """
S -> A B [0.5] | B 'c' [0.2] | A [0.3]
A -> 'a' [0.1] | 'a' 'b' [0.9]
B -> 'b' [0.7] | A A [0.3]
"""
CAPPED = "S -> S S [0.55] | 'a' [0.3] | 'b' [0.15]"


def goodness(observed: np.ndarray, expected: np.ndarray) -> float:
    """p-value of a chi-square test against probabilities, rare outcomes taken together."""
    counts = expected * observed.sum()
    rare = counts < 8
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        counts = np.append(counts[~rare], counts[rare].sum())
    if counts[-1] < 1e-9:
        assert observed[-1] == 0
        observed, counts = observed[:-1], counts[:-1]
    return chisquare(observed, counts * observed.sum() / counts.sum()).pvalue


def same_distribution(first: list, second: list) -> float:
    """p-value of a two-sample chi-square test on outcomes seen often enough."""
    seen = Counter(first) + Counter(second)
    often = [x for x, n in seen.items() if n >= 40]
    table = np.array([[Counter(sample)[x] for x in often] for sample in (first, second)])
    rest = np.array([[len(first)], [len(second)]]) - table.sum(1, keepdims=True)
    table = np.hstack([table, rest]) if rest.sum() >= 40 else table
    return chi2_contingency(table)[1]


def words(drawn: Strings, terminals: tuple[str, ...]) -> list[str]:
    tokens, lengths = drawn.tokens.flatten(0, 1).tolist(), drawn.lengths.flatten().tolist()
    return ["".join(terminals[x] for x in row[:n]) for row, n in zip(tokens, lengths, strict=True)]


def check_closed_forms(name: str, batch: int) -> None:
    jain = grammar(name)
    drawn = Sampler(jain).strings(KEYS, batch)
    lengths = drawn.lengths.flatten().numpy()
    exact = length_distribution(jain, int(lengths.max()) + 1)
    observed = np.bincount(lengths, minlength=len(exact))
    assert goodness(observed, exact) > LEAST_P
    error = lengths.std() / len(lengths) ** 0.5
    assert 2 * norm.sf(abs(lengths.mean() - expected_length(jain)) / error) > LEAST_P
    for index in range(len(jain.terminals)):
        count = (drawn.tokens == index).sum(-1).flatten().double().numpy()
        error = count.std() / len(count) ** 0.5
        assert 2 * norm.sf(abs(count.mean() - expected_terminals(jain)[index]) / error) > LEAST_P
    uses = drawn.rule_uses.flatten(0, 1).double().numpy()
    z = (uses.mean(0) - expected_rule_uses(jain)) / (uses.std(0) / len(uses) ** 0.5)
    assert 2 * norm.sf(np.abs(z).max()) * len(z) > LEAST_P
    check_choices_of_rules(jain, uses.sum(0))


def check_choices_of_rules(ours: Grammar, uses: np.ndarray) -> None:
    """Given how often a parent occurs, its rules are multinomial; the parents' statistics add up."""
    statistic, freedom = 0.0, 0
    for parent in ours.nonterminals:
        rules = [i for i, rule in enumerate(ours.productions) if rule.lhs() == parent]
        expected = np.array([ours.productions[i].prob() for i in rules]) * uses[rules].sum()
        statistic += ((uses[rules] - expected) ** 2 / expected).sum()
        freedom += len(rules) - 1
    assert chi2.sf(statistic, freedom) > LEAST_P


def check_against_nltk(name: str, count: int) -> None:
    """Lengths, bigrams and trigrams at a fixed distance from either end, and uses of every rule."""
    ours = grammar(name)
    drawn = Sampler(ours).strings(KEYS[:1], count)
    assert drawn.lengths.numel() == count
    ours_words = words(drawn, ours.terminals)
    plain = NltkSampler(ours, seed=5)
    theirs, uses = [], np.zeros(len(ours.productions))
    number = {rule: i for i, rule in enumerate(ours.productions)}
    for _ in range(count):
        tokens, used = plain.string()
        theirs.append("".join(tokens))
        for rule in used:
            uses[number[rule]] += 1
    views = {
        "length": lambda x: len(x) // 10,
        "beginning": lambda x: x[:6],
        "end": lambda x: x[-6:],
        "middle trigram": lambda x: x[len(x) // 2 : len(x) // 2 + 3],
        "trigram repeated": lambda x: x[40:43] + x[43:46],
        "count of a": lambda x: x.count("a") // 8,
        "count of bigram ab": lambda x: x.count("ab") // 8,
    }
    for view in views.values():
        assert same_distribution([view(x) for x in ours_words], [view(x) for x in theirs]) > LEAST_P
    ours_uses = drawn.rule_uses.flatten(0, 1).sum(0).numpy()
    np.testing.assert_allclose(ours_uses / count, uses / count, rtol=12 / count**0.5)


@pytest.mark.parametrize("name", GRAMMARS)
def test_strings_have_the_closed_form_lengths_terminals_and_rules(name: str) -> None:
    check_closed_forms(name, 3_500)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAMMARS)
def test_100_000_strings_have_the_closed_form_lengths_terminals_and_rules(name: str) -> None:
    check_closed_forms(name, 34_000)


def test_strings_are_distributed_as_nltks() -> None:
    check_against_nltk("jain2024", 5_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jain2024", "ambiguous"])
def test_100_000_strings_are_distributed_as_nltks(name: str) -> None:
    check_against_nltk(name, 100_000)


@pytest.mark.parametrize("largest_table", [1, 4, 1 << 13])
def test_every_string_has_the_probability_that_nltks_parser_gives_it(largest_table: int) -> None:
    uneven = Grammar.from_text(UNEVEN, "uneven")
    drawn = words(Sampler(uneven, largest_table).strings(KEYS, 20_000), uneven.terminals)
    strings = sorted(set(drawn))
    probability = np.array([uneven.probability(list(x)) for x in strings])
    assert probability.sum() == pytest.approx(1)  # so every string was seen
    assert goodness(np.array([Counter(drawn)[x] for x in strings]), probability) > LEAST_P


def test_a_capped_grammar_is_drawn_conditional_on_its_length() -> None:
    capped = Grammar.from_text(CAPPED, "capped", max_length=4)
    drawn = words(Sampler(capped).strings(KEYS, 20_000), capped.terminals)
    strings = ["".join(x) for n in range(1, 5) for x in product("ab", repeat=n)]
    probability = np.array([capped.probability(list(x)) for x in strings])
    assert set(drawn) <= set(strings)
    observed = np.array([Counter(drawn)[x] for x in strings])
    assert goodness(observed, probability / probability.sum()) > LEAST_P


def test_windows_are_uniform_places_of_strings_that_are_long_enough() -> None:
    uneven, length = Grammar.from_text(UNEVEN, "uneven"), 3
    strings = sorted(set(words(Sampler(uneven).strings(KEYS, 5_000), uneven.terminals)))
    exact: Counter[str] = Counter()
    for string in (x for x in strings if len(x) >= length):
        places = len(string) - length + 1
        for place in range(places):
            exact[string[place : place + length]] += uneven.probability(list(string)) / places
    drawn = Sampler(uneven).windows(KEYS, 20_000, length).flatten(0, 1).tolist()
    seen = Counter("".join(uneven.terminals[x] for x in row) for row in drawn)
    assert set(seen) == set(exact)
    probability = np.array([exact[x] for x in exact]) / exact.total()
    assert goodness(np.array([seen[x] for x in exact]), probability) > LEAST_P


def test_a_window_is_a_part_of_the_string_that_its_key_makes() -> None:
    """All strings of ``deep`` are longer than 250, so none is drawn again and the keys line up."""
    deep = Sampler(grammar("deep"))
    strings = words(deep.strings(KEYS, 50), deep.grammar.terminals)
    for window, string in zip(deep.windows(KEYS, 50, 250).flatten(0, 1).tolist(), strings, strict=True):
        assert "".join(deep.grammar.terminals[x] for x in window) in string


@pytest.mark.parametrize("largest_table", [1, 1 << 13])
def test_rule_uses_are_those_of_the_strings_parse(largest_table: int) -> None:
    text = "S -> A B [0.4] | 'c' B [0.6]\nA -> 'a' A [0.3] | 'a' [0.7]\nB -> 'b' 'b' [0.2] | 'c' 'b' [0.8]"
    plain = Grammar.from_text(text, "unambiguous")
    drawn = Sampler(plain, largest_table).strings(KEYS, 60)
    for string, uses in zip(words(drawn, plain.terminals), drawn.rule_uses.flatten(0, 1), strict=True):
        parse = plain.best_parse(list(string))
        assert parse is not None
        number = {str(rule).split(" [")[0]: i for i, rule in enumerate(plain.productions)}
        counted = Counter(number[str(rule)] for rule in parse.productions())
        assert uses.tolist() == [counted[i] for i in range(len(plain.productions))]


def test_strings_belong_to_the_language() -> None:
    small = grammar("ambiguous")
    short = Grammar(
        "short",
        small.nonterminals[-3],
        tuple(r for r in small.productions if r.lhs() == small.nonterminals[-3]),
    )
    capped = Grammar.from_text(CAPPED, "capped", max_length=8)
    for ours in (short, capped, Grammar.from_text(UNEVEN, "uneven")):
        assert all(ours.contains(list(x)) for x in words(Sampler(ours).strings(KEYS, 30), ours.terminals))


@pytest.mark.parametrize("length", [40, 250, 300])
def test_a_window_depends_on_its_key_alone(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Sampler(grammar("jain2024"))
    together = ours.windows(KEYS, 70, length)
    for i in range(len(KEYS)):
        assert torch.equal(ours.windows(KEYS[i : i + 1], 70, length)[0], together[i])
    assert torch.equal(ours.windows(KEYS.flip(0), 70, length).flip(0), together)
    assert torch.equal(ours.windows(KEYS, 31, length), together[:, :31])
    monkeypatch.setitem(sampler.BLOCK, "cpu", 13)
    assert torch.equal(ours.windows(KEYS, 70, length), together)


def test_strings_of_a_recursive_grammar_depend_on_their_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings that are finished wait for the batch's deepest, which must not change them."""
    text = "S -> S S [0.55] | A [0.45]\nA -> 'a' [0.6] | 'b' 'c' [0.4]"
    ours = Sampler(Grammar.from_text(text, "capped", max_length=30))
    together = ours.strings(KEYS, 90)
    alone = ours.strings(KEYS[1:2], 40)
    longest = alone.tokens.shape[-1]
    assert torch.equal(alone.tokens[0], together.tokens[1, :40, :longest])
    assert torch.equal(alone.rule_uses[0], together.rule_uses[1, :40])
    monkeypatch.setitem(sampler.BLOCK, "cpu", 7)
    assert torch.equal(ours.strings(KEYS, 90).tokens, together.tokens)


@pytest.mark.gpu
def test_a_gpu_draws_the_same_windows() -> None:
    ours = Sampler(grammar("jain2024"))
    assert torch.equal(ours.windows(KEYS.cuda(), 500, 250).cpu(), ours.windows(KEYS, 500, 250))


def test_lengths_that_strings_hardly_reach_are_refused() -> None:
    ours = Sampler(grammar("jain2024"))
    with pytest.raises(InputError, match=r"window = 433.*1 to \d+ tokens"):
        ours.windows(KEYS, 4, 433)
    with pytest.raises(InputError, match="1 or more"):
        ours.windows(KEYS, 4, 0)
    hopeless = Grammar.from_text("S -> 'a' 'b' [0.9999] | 'a' [0.0001]", "hopeless", max_length=1)
    with pytest.raises(InputError, match="max_length"):
        Sampler(hopeless).strings(KEYS, 4)
