"""The analyses of layers and parts on text models of any family, through their small interface.

``compare_text_layers`` is ``veneer.analysis.layers.compare_layers`` at one position of each prompt (its last
token in Zhao et al. 2024). ``text_ablation_effects`` is ``veneer.analysis.ablation`` for models of
transformers: the contribution of a head is taken out where the output matrix of the attention reads it, that
of an MLP or a block where it is written to the stream. ``text_loss_effects`` asks the same of ordinary texts.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import polars as pl
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.ablation import HOWS, How, Part
from veneer.analysis.layers import layer_table
from veneer.analysis.similarity import Sums
from veneer.language.encoding import Encoded
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.text_model import TextModel
from veneer.tasks.errors import InputError

PIECE = 16  # prompts at a time

Tokens = Int[Tensor, "batch position"]
Places = Int[Tensor, "batch"]


def text_states(
    model: TextModel, tokens: Tokens, at: Places, piece: int = PIECE
) -> Iterator[Float[Tensor, "residual sample width"]]:
    """Residual streams at one position of each prompt, some prompts at a time.

    They are those after the embedding and after each block; the last one is taken before the final norm.

    Args:
        model: what is looked into.
        tokens: prompts, filled up on the right.
        at: the position of each, as that of its last token.
        piece: prompts at a time.
    """
    names = [f"residual.{i}" for i in range(model.blocks + 1)]
    for some, places in zip(tokens.split(piece), at.split(piece), strict=True):
        with torch.no_grad():
            seen = model.see(some, capture=names).captured
        rows = torch.arange(len(some))
        yield torch.stack([seen[name][rows, places] for name in names])


def compare_text_layers(
    first: TextModel, second: TextModel, tokens: Tokens, at: Places, piece: int = PIECE
) -> pl.DataFrame:
    """Similarity of every pair of residual streams at the same depth; see ``compare_layers``.

    Raises:
        InputError: other numbers of blocks, fewer than four prompts, or activations that are not finite.
    """
    if first.blocks != second.blocks:
        raise InputError("second", second.blocks, f"a model of {first.blocks} blocks")
    sums = Sums()
    pieces = (text_states(model, tokens, at, piece) for model in (first, second))
    for before, after in zip(*pieces, strict=True):
        sums.add(before[None], after[None])
    return layer_table(sums)


def text_parts(model: HuggingFaceModel, kinds: Collection[str] = ("head", "mlp", "block")) -> list[Part]:
    """Every head, MLP and block of a model, by block."""
    heads = int(model.module.config.num_attention_heads)
    each = [
        *(("head", head) for head in range(heads)),
        ("mlp", None),
        ("block", None),
    ]
    return [
        Part(kind, block, head)  # pyright: ignore[reportArgumentType]
        for block in range(model.blocks)
        for kind, head in each
        if kind in kinds
    ]


@torch.no_grad()
def text_ablation_effects(
    model: HuggingFaceModel,
    tokens: Tokens,
    at: Places,
    labels: Places,
    how: How = "zero",
    answers: Sequence[int] | None = None,
    chosen: Sequence[Part] | None = None,
    piece: int = 64,
) -> pl.DataFrame:
    """Accuracy and logit difference without each part.

    Args:
        model: left as it is.
        tokens: prompts, filled up on the right.
        at: the position of each at which the answer is read.
        labels: token of the right answer of each.
        how: zero ablation, or the mean over prompts and their positions in its place.
        answers: the tokens that an answer is chosen from; None takes the whole vocabulary.
        chosen: the parts; None takes all.
        piece: prompts at a time.

    Returns:
        The table of ``veneer.analysis.ablation.ablation_effects``.

    Raises:
        InputError: a way to ablate that does not exist, a label that is no answer, or a family whose parts
            are not known.
    """
    if how not in HOWS:
        raise InputError("how", how, " or ".join(HOWS))
    known = torch.arange(model.vocabulary) if answers is None else torch.tensor(sorted(set(answers)))
    if not torch.isin(labels, known).all():
        raise InputError(
            "labels", labels[~torch.isin(labels, known)].tolist()[:3], "tokens among the answers"
        )
    right = torch.searchsorted(known, labels)
    wanted = text_parts(model) if chosen is None else list(chosen)

    def measured(part: Part | None) -> tuple[float, float]:
        with _without(model, part, means):
            return _measure(model, tokens, at, right, known, piece)

    means = _means(model, tokens, at, piece) if how == "mean" else {}
    accuracy, difference = measured(None)
    found = [measured(part) for part in wanted]
    return pl.DataFrame(
        {
            "kind": [part.kind for part in wanted],
            "block": [part.block for part in wanted],
            "head": [part.head for part in wanted],
            "accuracy": [own for own, _ in found],
            "accuracy_lost": [accuracy - own for own, _ in found],
            "difference": [own for _, own in found],
            "difference_lost": [difference - own for _, own in found],
        },
        schema_overrides={"head": pl.Int64},
    )


@torch.no_grad()
def text_loss_effects(
    model: HuggingFaceModel,
    texts: Encoded,
    how: How = "zero",
    chosen: Sequence[Part] | None = None,
    piece: int = 8,
) -> pl.DataFrame:
    """Loss on ordinary texts without each part: what a model's parts do for language at large.

    Args:
        model: left as it is.
        texts: with the tokens that are predicted.
        how: zero ablation, or the mean over texts and their positions in its place.
        chosen: the parts; None takes all.
        piece: texts at a time.

    Returns:
        A row for the whole model (kind "whole") and one for each part: kind, block, head; ``loss`` in nats a
        token, and ``loss_gained`` over that of the whole model.

    Raises:
        InputError: a way to ablate that does not exist, or a family whose parts are not known.
    """
    if how not in HOWS:
        raise InputError("how", how, " or ".join(HOWS))
    wanted = text_parts(model) if chosen is None else list(chosen)
    ends = torch.zeros(len(texts.tokens), dtype=torch.int64).scatter_reduce(
        0, texts.items.cpu(), texts.positions.cpu(), "amax"
    )
    means = _means(model, texts.tokens, ends.to(texts.tokens.device), piece) if how == "mean" else {}
    found = []
    for part in (None, *wanted):
        with _without(model, part, means):
            found.append(_text_loss(model, texts, piece))
    return pl.DataFrame(
        {
            "kind": ["whole", *(part.kind for part in wanted)],
            "block": [None, *(part.block for part in wanted)],
            "head": [None, *(part.head for part in wanted)],
            "loss": found,
            "loss_gained": [own - found[0] for own in found],
        },
        schema_overrides={"block": pl.Int64, "head": pl.Int64},
    )


def _text_loss(model: HuggingFaceModel, texts: Encoded, piece: int) -> float:
    """Mean loss a token, in nats."""
    total = 0.0
    for start in range(0, len(texts.tokens), piece):
        rows = (texts.items >= start) & (texts.items < start + piece)
        tokens = texts.tokens[start : start + piece]
        logits = model.logits_at(tokens, texts.items[rows] - start, texts.positions[rows])
        total += float(F.cross_entropy(logits.float(), texts.targets[rows], reduction="sum"))
    return total / len(texts.targets)


@contextmanager
def _without(model: HuggingFaceModel, part: Part | None, means: dict[str, Tensor]) -> Iterator[None]:
    """The model without a part, for as long as the context lasts; None leaves it whole."""
    with ExitStack() as stack:
        if part is not None:
            for module, hook in _edits(model, part, means):
                stack.callback(hook(module).remove)
        yield


def _measure(
    model: HuggingFaceModel, tokens: Tokens, at: Places, right: Places, known: Tensor, piece: int
) -> tuple[float, float]:
    hits, difference = 0.0, 0.0
    for some, places, own in zip(tokens.split(piece), at.split(piece), right.split(piece), strict=True):
        logits = model.logits_at(some, torch.arange(len(some)), places)[:, known].double()
        mine = logits.gather(1, own[:, None])
        other = logits.scatter(1, own[:, None], -torch.inf).amax(1)
        hits += float((logits.argmax(1) == own).sum())
        difference += float((mine[:, 0] - other).sum())
    return hits / len(tokens), difference / len(tokens)


def _writers(model: HuggingFaceModel, block: int) -> tuple[Any, Any]:
    """The matrices of a block that write to the stream: the attention's and the MLP's."""
    attention, mlp = (model.block(block).get_submodule(name) for name in model.places.writers)
    return attention, mlp


def _edits(
    model: HuggingFaceModel, part: Part, means: dict[str, Tensor]
) -> list[tuple[Any, Callable[[Any], Any]]]:
    """Modules with the hook that takes the part's contribution out of each."""
    attention, mlp = _writers(model, part.block)
    if part.kind == "head":
        assert part.head is not None
        heads = int(model.module.config.num_attention_heads)

        def without(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
            size = given[0].shape[-1] // heads
            own = slice(part.head * size, (part.head + 1) * size)  # pyright: ignore[reportOptionalOperand]
            mixed = given[0].clone()
            mixed[..., own] = means[f"heads.{part.block}"][own] if means else 0
            return (mixed, *given[1:])

        return [(attention, lambda module: module.register_forward_pre_hook(without))]

    def instead(name: str) -> Callable[[Any], Any]:
        def replace(module: Any, given: tuple[Any, ...], output: Tensor) -> Tensor:
            return means[name].expand_as(output) if means else torch.zeros_like(output)

        return lambda module: module.register_forward_hook(replace)

    edits = [(mlp, instead(f"mlp.{part.block}"))]
    return edits if part.kind == "mlp" else [*edits, (attention, instead(f"attention.{part.block}"))]


def _means(model: HuggingFaceModel, tokens: Tokens, at: Places, piece: int) -> dict[str, Tensor]:
    """Means, over prompts and positions up to ``at``, of what heads give and of what is written."""
    sums: dict[str, Tensor] = {}
    inside = torch.arange(tokens.shape[1]) <= at[:, None]
    now: list[Tensor] = []

    def keep(name: str, value: Tensor) -> None:
        sums[name] = sums.get(name, torch.zeros(())) + value[now[-1]].double().sum(0)

    with ExitStack() as stack:
        for block in range(model.blocks):
            for kind, module in zip(("attention", "mlp"), _writers(model, block), strict=True):

                def watch(
                    module: Any, given: tuple[Any, ...], output: Tensor, name: str = f"{kind}.{block}"
                ) -> None:
                    keep(name, output)
                    if name.startswith("attention"):
                        keep(name.replace("attention", "heads"), given[0])

                stack.callback(module.register_forward_hook(watch).remove)
        for some, mask in zip(tokens.split(piece), inside.split(piece), strict=True):
            now.append(mask)
            model.see(some)
    return {name: (total / inside.sum()).float() for name, total in sums.items()}
