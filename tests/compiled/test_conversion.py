"""A compiled program means in PyTorch what it means in Tracr's Haiku model and in RASP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tracr.compiler import compiling
from tracr.compiler import test_cases as tracr_cases
from tracr.compiler.assemble import AssembledTransformerModel
from tracr.rasp import rasp

from veneer.compiled import compiler, programs
from veneer.compiled.capability import CompiledCapability
from veneer.tasks.errors import InputError

LETTERS = "abcdefghi"
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def cases(given: list[dict], causal: bool) -> list:
    """One test per case; all but the first of each program are slow, as Tracr compiles for seconds."""
    params, seen = [], set()
    for case in given:
        name = ("causal_" if causal else "") + case["testcase_name"]
        family = case["testcase_name"].rstrip("_0123456789")
        first = family not in seen and family != "shuffle_dyck3"
        first = first and (not causal or family == "selector_width")
        seen.add(family)
        params.append(pytest.param(case, causal, id=name, marks=() if first else pytest.mark.slow))
    return params


CASES = cases(tracr_cases.TEST_CASES, causal=False)
CAUSAL = cases(tracr_cases.CAUSAL_TEST_CASES, causal=True)


def numbers(values: list) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def both(
    program: rasp.SOp, vocabulary: object, length: int, causal: bool = False, exactness: int = 100
) -> tuple[AssembledTransformerModel, CompiledCapability]:
    """Tracr's model and ours."""
    ours = compiler.compile_program(program, vocabulary, length, causal=causal, mlp_exactness=exactness)  # pyright: ignore[reportArgumentType]
    theirs = compiler.assemble(program, vocabulary, length, causal, ours.bos, ours.pad, exactness)  # pyright: ignore[reportArgumentType]
    theirs.forward = jax.jit(theirs.forward)
    return theirs, ours


def haiku_logits(
    theirs: AssembledTransformerModel, ours: CompiledCapability, ids: list[list[int]]
) -> np.ndarray:
    """Haiku's residual stream read at the directions that carry the output's name and values."""
    with jax.default_matmul_precision("float32"):
        out = theirs.forward(theirs.params, jnp.array(ids))
    residual = np.asarray(out.transformer_output.output)  # pyright: ignore[reportAttributeAccessIssue]
    return residual[..., output_directions(theirs, ours)]


def output_directions(theirs: AssembledTransformerModel, ours: CompiledCapability) -> list[int]:
    """Where Tracr's labels say the output is: the sink is the program's first-numbered expression."""
    names = [label.partition(":")[0] for label in theirs.residual_labels]
    sink = next(name for name in names if name.endswith("_1") or name == "tokens")
    if ours.classes is None:
        return [theirs.residual_labels.index(sink)]
    return [theirs.residual_labels.index(f"{sink}:{value}") for value in ours.classes]


@pytest.mark.parametrize(("case", "causal"), CASES + CAUSAL)
def test_every_program_of_tracrs_own_tests_is_the_same_function(case: dict, causal: bool) -> None:
    theirs, ours = both(case["program"], case["vocab"], case["max_seq_len"], causal)
    ids = ours.encode(case["test_input"])
    with torch.no_grad():
        logits = ours.model(torch.tensor([[ids]])).logits[0]
    np.testing.assert_allclose(logits.numpy(), haiku_logits(theirs, ours, [ids]), atol=1e-5)
    got, expected = ours.run(case["test_input"]), case["expected_output"]
    applied = theirs.apply([ours.bos, *case["test_input"]]).decoded
    assert got[0] == applied[0] == ours.bos
    if ours.classes is None:
        np.testing.assert_allclose(numbers(got[1:]), numbers(applied[1:]), atol=1e-6)
        np.testing.assert_allclose(numbers(got[1:]), numbers(expected), atol=1e-6, rtol=0.005)
    else:
        known = [i for i, value in enumerate(expected, start=1) if value is not None]
        assert [got[i] for i in known] == [applied[i] for i in known]
        if not isinstance(expected[0], int | float):
            assert [got[i] for i in known] == [expected[i - 1] for i in known]
        else:
            values = [expected[i - 1] for i in known]
            np.testing.assert_allclose(numbers([got[i] for i in known]), numbers(values), rtol=0.005)


@pytest.mark.parametrize(
    ("program", "letters", "length"),
    [
        (programs.counter("a"), LETTERS, 16),
        (programs.counter_everywhere("c"), LETTERS, 16),
        (programs.max_identifier(5), ALPHABET, 10),
    ],
)
def test_the_papers_programs_agree_with_haiku_on_random_strings(
    program: rasp.SOp, letters: str, length: int
) -> None:
    theirs, ours = both(program, letters, length, exactness=300)
    draw = np.random.default_rng(0)
    strings = [draw.permutation(list(letters) * 2)[:length].tolist() for _ in range(50)]
    ids = [ours.encode(string) for string in strings]
    with torch.no_grad():
        logits = ours.model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(logits, haiku_logits(theirs, ours, ids), atol=1e-5)
    for string in strings[:5]:
        assert ours.run(string)[2] == theirs.apply([ours.bos, *string]).decoded[2]


@pytest.mark.parametrize("case", [tracr_cases.TEST_CASES[0], tracr_cases.TEST_CASES[10]])
def test_padding_is_an_ordinary_key_as_in_tracr(case: dict) -> None:
    theirs, ours = both(case["program"], case["vocab"], case["max_seq_len"] + 2)
    padded = [*case["test_input"], ours.pad, ours.pad]
    got, applied = ours.run(padded), theirs.apply([ours.bos, *padded]).decoded
    if ours.classes is None:
        np.testing.assert_allclose(numbers(got[1:]), numbers(applied[1:]), atol=1e-6)
    else:
        assert got == applied


def test_the_unembedding_reads_the_directions_that_the_labels_name() -> None:
    theirs, ours = both(programs.counter("a"), LETTERS, 5)
    directions = ours.model.unembedding[0].argmax(0).tolist()
    assert directions == output_directions(theirs, ours)
    assert torch.equal(ours.model.unembedding[0].sum(0), torch.ones(6))
    assert list(ours.residual_labels) == theirs.residual_labels
    assert ours.classes == (0, 1, 2, 3, 4, 5)


def test_output_directions_need_not_come_first() -> None:
    """``zz`` sorts behind every other name, so its directions are the last ones."""
    ours = compiler.compile_program(rasp.Map(lambda x: x, rasp.tokens).named("zz"), "abc", 3)
    assert ours.model.unembedding[0].argmax(0).tolist() == [
        len(ours.residual_labels) - 3 + i for i in range(3)
    ]
    assert ours.run(list("cab"))[1:] == list("cab")


def test_token_and_position_embeddings_lie_along_their_labels() -> None:
    ours = compiler.compile_program(programs.counter("a"), LETTERS, 5)
    labels = ours.residual_labels
    for i, token in enumerate(ours.vocabulary):
        assert ours.model.token_embedding[0, i, labels.index(f"tokens:{token}")] == 1
    assert not ours.model.position_embedding[0, 0].any()
    for index in range(5):
        assert ours.model.position_embedding[0, index + 1, labels.index(f"indices:{index}")] == 1


def test_biases_are_copied() -> None:
    assembled = compiler.assemble(programs.counter("a"), LETTERS, 4, False, "BOS", "#", 100)
    assembled.params = {
        key: {name: array + 0.5 if name == "b" else array for name, array in group.items()}
        for key, group in assembled.params.items()
    }
    state = compiler.convert(assembled, 5).state_dict()
    assert all((value == 0.5).all() for name, value in state.items() if name.endswith(".bias"))


def test_tracr_would_have_written_the_same_weights_over_random_ones() -> None:
    program = programs.counter("a")
    ours = compiler.assemble(program, LETTERS, 3, False, "BOS", "#", 200)
    theirs = compiling.compile_rasp_to_model(
        program, set(LETTERS), 3, compiler_bos="BOS", compiler_pad="#", mlp_exactness=200
    )
    assert jax.tree.structure(ours.params) == jax.tree.structure(theirs.params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), ours.params, theirs.params))


def test_weights_do_not_depend_on_what_was_compiled_before() -> None:
    first = compiler.compile_program(programs.counter("a"), LETTERS, 5)
    for _ in range(3):
        compiler.compile_program(programs.max_identifier(2), LETTERS, 5)
    again = compiler.compile_program(programs.counter("a"), LETTERS, 5)
    assert first.residual_labels == again.residual_labels
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c["testcase_name"]) for c in tracr_cases.UNSUPPORTED_TEST_CASES]
)
def test_what_tracr_does_not_support_is_refused_by_name(case: dict) -> None:
    with pytest.raises(InputError) as caught:
        compiler.compile_program(case["program"], case["vocab"], case["max_seq_len"])
    text = str(caught.value)
    names = [f"{type(expression).__name__})" for expression in expressions(case["program"])]
    assert "\n" not in text
    assert any(name in text for name in names) or "NotImplementedError" in text


def expressions(program: rasp.RASPExpr) -> list[rasp.RASPExpr]:
    """A program and everything below it."""
    return [program, *(e for child in program.children for e in expressions(child))]


def test_a_program_without_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="tokens"):
        compiler.compile_program(rasp.Map(lambda x: x, rasp.indices), "ab", 3)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"vocabulary": []}, "vocabulary"),
        ({"vocabulary": ["a", "BOS"]}, "bos"),
        ({"vocabulary": ["a", "#"]}, "pad"),
        ({"pad": "BOS"}, "pad"),
        ({"max_length": 0}, "max_length"),
        ({"mlp_exactness": 0}, "mlp_exactness"),
    ],
)
def test_unusable_arguments_are_named(change: dict, field: str) -> None:
    arguments = {"vocabulary": ["a", "b"], "max_length": 3} | change
    with pytest.raises(InputError) as caught:
        compiler.compile_program(programs.counter("a"), **arguments)
    assert caught.value.field == field
