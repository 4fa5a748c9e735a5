"""RASP program -> Tracr -> our Transformer, weight by weight.

Importing this module imports Tracr and JAX. Tracr (Lindner et al. 2023) assembles a Haiku model;
its parameters, all biases included, and its fixed projection on the output directions are copied,
so that both models are the same function up to rounding.
"""

import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor
from tracr.compiler import compiling, validating
from tracr.compiler.assemble import AssembledTransformerModel
from tracr.rasp import causal_eval, rasp
from tracr.transformer import encoder

from veneer.compiled.capability import CompiledCapability, Value
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

BOS, PAD = "BOS", "#"
REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)
"""What Tracr, or a function inside a program, raises on a program that cannot be compiled."""

_LINEARS = {
    "query": "attn/query",
    "key": "attn/key",
    "value": "attn/value",
    "output": "attn/linear",
    "mlp_in": "mlp/linear_1",
    "mlp_out": "mlp/linear_2",
}


def compile_program(
    program: rasp.SOp,
    vocabulary: Collection[Value],
    max_length: int,
    *,
    causal: bool = False,
    bos: str = BOS,
    pad: str = PAD,
    mlp_exactness: int = 100,
    answer_position: int | None = None,
    source: str = "a RASP program",
) -> CompiledCapability:
    """A RASP program as a capability with the weights that Tracr gives it.

    Args:
        program: its output may be categorical or numerical.
        vocabulary: the tokens it is to accept, without BOS and PAD.
        max_length: longest input in tokens, without BOS.
        causal: compile for causal attention.
        bos: name of the token put in front of every input.
        pad: name of the padding token.
        mlp_exactness: the MLPs' steps are 1 / mlp_exactness wide.
        answer_position: where the answer is read, BOS counted; None for everywhere.
        source: kept with the capability.

    Raises:
        InputError: an unusable vocabulary or length, or a program that Tracr cannot compile; it
            names the expression and the reason.
    """
    check_arguments(vocabulary, max_length, bos, pad, mlp_exactness)
    assembled = assemble(program, vocabulary, max_length, causal, bos, pad, mlp_exactness, source)
    tokens = assembled.input_encoder
    assert isinstance(tokens, encoder.CategoricalEncoder)
    return CompiledCapability(
        model=convert(assembled, max_length + 1),
        vocabulary=_values_by_id(tokens),
        bos=bos,
        pad=pad,
        classes=_classes(assembled),
        residual_labels=tuple(assembled.residual_labels),
        max_length=max_length,
        causal=causal,
        mlp_exactness=mlp_exactness,
        answer_position=answer_position,
        source=source,
    )


def assemble(
    program: rasp.SOp,
    vocabulary: Collection[Value],
    max_length: int,
    causal: bool,
    bos: str,
    pad: str,
    mlp_exactness: int,
    source: str = "a RASP program",
) -> AssembledTransformerModel:
    """Tracr's own compiled model; arguments as for ``compile_program``.

    Raises:
        InputError: Tracr cannot compile the program.
    """
    number_expressions(program)
    refused = validating.static_validate(program)
    if refused:
        reasons = "; ".join(f"{describe(r.expr)}: {' '.join(r.reason.split())}" for r in refused)
        raise InputError("program", source, "a program that Tracr can compile", reasons)
    try:
        with _without_random_weights():
            return compiling.compile_rasp_to_model(
                program,
                vocab=cast(set[rasp.Value], set(vocabulary)),
                max_seq_len=max_length,
                causal=causal,
                compiler_bos=bos,
                compiler_pad=pad,
                mlp_exactness=mlp_exactness,
            )
    except REFUSALS as error:
        if _is_of_the_users(error):
            raise  # told by whoever runs the user's code, with its place
        raise InputError(
            "program", source, "a program that Tracr can compile", _cause(program, error)
        ) from error


def _is_of_the_users(error: BaseException) -> bool:
    """Whether an error was raised inside a function that the program brings with it."""
    frames = traceback.extract_tb(error.__traceback__)
    return not any(part in frames[-1].filename for part in ("site-packages", "veneer"))


def _cause(program: rasp.SOp, error: Exception) -> str:
    """What Tracr stumbled over, in words."""
    waiting: list[rasp.RASPExpr] = [program]
    seen = set[int]()
    combined: list[rasp.RASPExpr] = []
    while waiting:
        expression = waiting.pop()
        if id(expression) not in seen:
            seen.add(id(expression))
            waiting += expression.children
            if isinstance(expression, rasp.SelectorAnd | rasp.SelectorOr | rasp.SelectorNot):
                combined.append(expression)
    if combined and isinstance(error, AttributeError):
        return (
            f"it combines selectors ({', '.join(sorted({describe(e) for e in combined}))}), for which Tracr "
            "has no attention pattern here; write the condition as one Select whose predicate tests it all"
        )
    words = " ".join(str(error).split()).strip(" ;")
    if "empty sequence" in words:
        return "an expression has no possible value: on this vocabulary and length it is always None"
    return f"Tracr fails on it with {type(error).__name__}{f': {words}' if words else ' and gives no reason'}"


@contextmanager
def _without_random_weights() -> Iterator[None]:
    """Let Haiku start from zeros.

    Tracr has it draw random weights, then sets every one of them to zero before it writes its own;
    drawing them is most of the compile time.
    """
    drawn = hk.initializers.VarianceScaling
    setattr(hk.initializers, "VarianceScaling", lambda *_: hk.initializers.Constant(0.0))  # noqa: B010
    try:
        yield
    finally:
        setattr(hk.initializers, "VarianceScaling", drawn)  # noqa: B010


def describe(expression: rasp.RASPExpr) -> str:
    """An expression's own name and its primitive, e.g. ``'targets' (Select)``."""
    return f"{expression.name!r} ({type(expression).__name__})"


def number_expressions(program: rasp.RASPExpr) -> None:
    """Number a program's expressions 1, 2, ... from its output down, breadth first.

    Tracr numbers expressions in the order in which the process happens to ask for their labels,
    and orders residual directions by label. Numbered here, a program always gives the same weights.
    """
    waiting, seen = [program], {id(program)}
    for number, expression in enumerate(waiting, start=1):
        vars(expression)["unique_id"] = number
        for child in expression.children:
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)


class _Interpreter(rasp.DefaultRASPEvaluator):
    """RASP's interpreter, except that a mean of values that are no numbers is None instead of an error.

    Alg. 2 takes such a mean at index 0, where nobody reads it.
    """

    def eval_aggregate(self, sop: rasp.Aggregate, xs: Sequence[rasp.Value]) -> list[rasp.Value]:
        rows = cast(rasp.SelectorValue, self.evaluate(sop.selector, xs))
        values = cast(Sequence[rasp.Value], self.evaluate(sop.sop, xs))
        chosen = [[value for on, value in zip(row, values, strict=True) if on] for row in rows]
        return [_mean(selected, sop.default) for selected in chosen]


class _CausalInterpreter(_Interpreter, causal_eval.CausalEvaluator):
    """The same with every selector cut to the past."""


def _mean(values: list[rasp.Value], default: rasp.Value) -> rasp.Value:
    if len(values) <= 1:
        return values[0] if values else default
    numbers = [value for value in values if isinstance(value, int | float)]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) else None


def interpret(program: rasp.SOp, values: Sequence[Value], causal: bool = False) -> list[Value]:
    """What RASP's own interpreter answers at every index: the meaning of the program.

    None where the program leaves the answer open.
    """
    evaluator = _CausalInterpreter() if causal else _Interpreter()
    tokens = cast(list[rasp.Value], list(values))
    return list(cast(Sequence[Value], evaluator.evaluate(program, tokens)))


def convert(assembled: AssembledTransformerModel, positions: int) -> Transformer:
    """Our Transformer with the parameters of Tracr's Haiku model."""
    parameters = assembled.params
    tokens, unembedding = parameters["token_embed"]["embeddings"], _unembedding(assembled)
    shape = assembled.model_config
    config = TransformerConfig(
        vocabulary=tokens.shape[0],
        classes=unembedding.shape[1],
        positions=positions,
        width=tokens.shape[1],
        blocks=shape.num_layers,
        heads=shape.num_heads,
        key_size=shape.key_size,
        mlp_width=shape.mlp_hidden_size,
        causal=shape.causal,
    )
    state = {
        "token_embedding": tokens,
        "position_embedding": parameters["pos_embed"]["embeddings"],
        "unembedding": unembedding,
    }
    for block in range(shape.num_layers):
        for ours, theirs in _LINEARS.items():
            layer = parameters[f"transformer/layer_{block}/{theirs}"]
            state[f"blocks.{block}.{ours}.weight"] = layer["w"]
            state[f"blocks.{block}.{ours}.bias"] = layer["b"]
    model = Transformer(config)
    model.load_state_dict({name: _member(array) for name, array in state.items()})
    return model


def _member(array: jax.Array | np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32)).unsqueeze(0)


def _unembedding(assembled: AssembledTransformerModel) -> np.ndarray:
    """Tracr's projection on the output directions [width, class]: its image of each basis vector."""

    def project(basis: jax.Array) -> jax.Array:
        return assembled.get_compiled_model().unembed(basis, use_unembed_argmax=False)

    transformed = hk.without_apply_rng(hk.transform(project))
    image = transformed.apply({}, jnp.eye(len(assembled.residual_labels)))
    return np.asarray(image).reshape(len(assembled.residual_labels), -1)


def _values_by_id(encoding: encoder.CategoricalEncoder) -> tuple[Value, ...]:
    return tuple(encoding.decode(list(range(encoding.vocab_size))))


def _classes(assembled: AssembledTransformerModel) -> tuple[Value, ...] | None:
    """Output value by class; None for a numerical output."""
    output = assembled.output_encoder
    return _values_by_id(output) if isinstance(output, encoder.CategoricalEncoder) else None


def check_arguments(
    vocabulary: Collection[Value], max_length: int, bos: str, pad: str, mlp_exactness: int
) -> None:
    """Refuse what no program can be compiled with.

    Raises:
        InputError: an empty vocabulary, a name in it, or a number below 1.
    """
    if not vocabulary:
        raise InputError("vocabulary", list(vocabulary), "at least one token")
    if max_length < 1:
        raise InputError("max_length", max_length, "1 or more tokens")
    if mlp_exactness < 1:
        raise InputError("mlp_exactness", mlp_exactness, "1 or more")
    for name, token in (("bos", bos), ("pad", pad)):
        if not token or token in vocabulary:
            raise InputError(name, token, "a name that is not in the vocabulary")
    if bos == pad:
        raise InputError("pad", pad, f"a name other than bos = {bos!r}")
