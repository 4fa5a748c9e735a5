"""The compiled Counter counts and the compiled Max-identifier ranks, against brute force and RASP."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tracr.rasp import rasp

from veneer.compiled import compiler, programs
from veneer.compiled.capability import CompiledCapability

LETTERS = "abcdefghi"
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
POSITION = 1 + programs.ANSWER_INDEX


@pytest.fixture(scope="module")
def counter() -> CompiledCapability:
    return compiler.compile_program(programs.counter("a"), LETTERS, 16, mlp_exactness=300)


@pytest.fixture(scope="module")
def everywhere() -> CompiledCapability:
    return compiler.compile_program(programs.counter_everywhere("b"), LETTERS, 16, mlp_exactness=300)


@pytest.fixture(scope="module")
def ranked() -> dict[int, CompiledCapability]:
    return {k: compiler.compile_program(programs.max_identifier(k), ALPHABET, 10) for k in (1, 5, 7, 10)}


@given(string=st.lists(st.sampled_from("aab" + LETTERS), min_size=2, max_size=16))
@settings(max_examples=100)
def test_the_counter_counts(counter: CompiledCapability, string: list[str]) -> None:
    assert counter.run(string)[POSITION] == string.count("a")


@given(string=st.lists(st.sampled_from("bbc" + LETTERS), min_size=1, max_size=16))
@settings(max_examples=100)
def test_read_everywhere_the_counter_counts_at_every_position(
    everywhere: CompiledCapability, string: list[str]
) -> None:
    assert everywhere.run(string)[1:] == [string.count("b")] * len(string)


@given(
    string=st.lists(st.sampled_from(ALPHABET), min_size=10, max_size=10, unique=True),
    k=st.sampled_from([1, 5, 7, 10]),
)
@settings(max_examples=100)
def test_the_max_identifier_ranks(ranked: dict[int, CompiledCapability], string: list[str], k: int) -> None:
    assert ranked[k].run(string)[POSITION] == sorted(string)[k - 1]


def test_the_papers_example() -> None:
    """App. C.1: for k = 5, the input b d a f h m x p q n gives h."""
    capability = compiler.compile_program(programs.max_identifier(5), ALPHABET, 10)
    assert capability.run(["b", "d", "a", "f", "h", "m", "x", "p", "q", "n"])[POSITION] == "h"


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_all_short_strings_agree_with_rasps_interpreter(length: int) -> None:
    """Over three letters, at the answer position, for both programs."""
    strings = [list(s) for s in itertools.product("abc", repeat=length)]
    for program in (programs.counter("b"), programs.max_identifier(2)):
        capability = compiler.compile_program(program, "abc", 5)
        with torch.no_grad():
            logits = capability.model(capability.encode_all(strings).unsqueeze(0), answer=POSITION).logits[0]
        for string, got in zip(strings, capability.decode(logits), strict=True):
            expected = compiler.interpret(program, string)[programs.ANSWER_INDEX]
            assert got == expected or expected is None, string


def test_only_index_1_answers() -> None:
    """True == 1: queries other than 0 and 1 select nothing, so the count there is 0 (Alg. 1)."""
    capability = compiler.compile_program(programs.counter("a"), LETTERS, 6)
    assert capability.run(list("abaaab")) == ["BOS", 2, 4, 0, 0, 0, 0]


def test_the_interpreter_is_rasps_own_where_that_gives_an_answer() -> None:
    program = programs.counter("a")
    assert compiler.interpret(program, list("abca")) == program(list("abca"))


def test_causal_interpretation_sees_the_past_only() -> None:
    width = rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE))
    assert compiler.interpret(width, list("abc"), causal=True) == [1, 2, 3]


def test_both_programs_have_the_papers_shape() -> None:
    """App. C.1: three blocks of one attention head, bidirectional, no normalization, ReLU."""
    for program, letters in ((programs.counter("a"), LETTERS), (programs.max_identifier(5), ALPHABET)):
        config = compiler.compile_program(program, letters, 10).model.config
        assert (config.blocks, config.heads, config.causal) == (3, 1, False)
        assert (config.normalization, config.activation, config.unembedding) == ("none", "relu", "fixed")
