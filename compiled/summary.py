"""A compiled capability in words: shape, directions of the residual stream, output, an example."""

from collections.abc import Iterable
from itertools import groupby

from veneer.compiled.capability import Calibration, CompiledCapability, Value

_EXAMPLE_LENGTH = 10
_SHOWN = 4


def summary(capability: CompiledCapability) -> str:
    """Several lines of text: what the capability is, how it was made, and one worked example."""
    config = capability.model.config
    attention = "causal" if capability.causal else "bidirectional"
    read = "everywhere" if capability.answer_position is None else f"position {capability.answer_position}"
    lines = [
        f"{capability.source}",
        f"  shape       {config.blocks} blocks, width {config.width}, {config.heads} heads of "
        f"{config.key_size}, MLP {config.mlp_width}, {attention}",
        f"  parameters  {capability.model.parameter_count:,}",
        f"  input       up to {capability.max_length} tokens behind {capability.bos!r}, padded with "
        f"{capability.pad!r}: {_listed(_tokens(capability))}",
        f"  output      {_output(capability)}, read {read}",
        f"  exactness   {capability.mlp_exactness}{_measured(capability.calibration)}",
        "  residual stream",
        *(f"    {line}" for line in _directions(capability.residual_labels)),
    ]
    example = _example(capability)
    answers = capability.run(example)
    lines += ["  example", f"    input     {_row(example)}", f"    output    {_row(answers[1:])}"]
    if capability.answer_position is not None and capability.answer_position < len(answers):
        lines.append(f"    answer    {_show(answers[capability.answer_position])}")
    return "\n".join(lines)


def _tokens(capability: CompiledCapability) -> list[Value]:
    return [value for value in capability.vocabulary if value not in (capability.bos, capability.pad)]


def _example(capability: CompiledCapability) -> list[Value]:
    """Every seventh (or fifth) token, round and round: all differ where the vocabulary is large enough."""
    tokens = _tokens(capability)
    step = 7 if len(tokens) % 7 else 5
    return [tokens[i * step % len(tokens)] for i in range(min(capability.max_length, _EXAMPLE_LENGTH))]


def _output(capability: CompiledCapability) -> str:
    if capability.classes is None:
        return "numerical, one number"
    return f"categorical, {len(capability.classes)} classes: {_listed(capability.classes)}"


def _measured(calibration: Calibration | None) -> str:
    if calibration is None:
        return ""
    text = f", right on {calibration.accuracy_before:.2%} of {calibration.strings:,} strings"
    if calibration.unanswered:
        text += f" (RASP has no answer at {calibration.unanswered:.1%} of the positions: not counted)"
    if calibration.seeds:
        text += f"; with noise of {calibration.noise_std:g} on {calibration.accuracy_after:.2%}"
    if calibration.every_before is not None:
        text += f" (all answers equally often: {calibration.every_before:.2%})"
    return text


def _directions(labels: tuple[str, ...]) -> list[str]:
    """One line per name, the values behind the colon collected."""
    parts = [label.partition(":") for label in labels]
    groups = [(name, [value for _, _, value in group]) for name, group in groupby(parts, key=lambda p: p[0])]
    wide = max(len(name) for name, _ in groups)
    return [f"{name:<{wide}}  {len(values):>3}  {_listed(values)}".rstrip() for name, values in groups]


def _listed(values: Iterable[Value]) -> str:
    shown = [_show(value) for value in values]
    return " ".join(shown if len(shown) <= 2 * _SHOWN else [*shown[:_SHOWN], "...", *shown[-_SHOWN:]])


def _row(values: list[Value]) -> str:
    return " ".join(_show(value) for value in values)


def _show(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
