"""What a text model of transformers loses with a part (after Lin 2024, Fig. 4).

``text_ablation_effects`` is ``veneer.analysis.ablation`` for such models: the contribution of a head is taken
out where the output matrix of the attention reads it, that of an MLP or a block where it is written to the
stream. ``text_loss_effects`` asks the same of ordinary texts.

What lies before a part does not depend on it. So the whole model runs once on some prompts, the streams
between its blocks and what each attention's output matrix reads are kept, and a model without a part runs
from that matrix on.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import polars as pl
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.ablation import HOWS, How, Part
from veneer.language.encoding import Encoded
from veneer.models.huggingface import HuggingFaceModel, computing
from veneer.tasks.errors import InputError

Tokens = Int[Tensor, "batch position"]
Places = Int[Tensor, "batch"]
Rows = Int[Tensor, "row"]


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
    device = tokens.device
    known = torch.arange(model.vocabulary) if answers is None else torch.tensor(sorted(set(answers)))
    known = known.to(device)
    if not torch.isin(labels, known).all():
        raise InputError(
            "labels", labels[~torch.isin(labels, known)].tolist()[:3], "tokens among the answers"
        )
    right = torch.searchsorted(known, labels)
    wanted = text_parts(model) if chosen is None else list(chosen)
    means = _means(model, tokens, at, piece) if how == "mean" else {}
    sums = torch.zeros(2, 1 + len(wanted), dtype=torch.float64)
    for some, places, own in zip(tokens.split(piece), at.split(piece), right.split(piece), strict=True):
        seen = some[:, : int(places.max()) + 1]
        whole = _Whole(model, seen, torch.arange(len(some), device=device), places)
        for column, part in enumerate((None, *wanted)):
            logits = whole.logits if part is None else whole.without(part, means)
            sums[:, column] += _answered(logits[:, known], own)
    (accuracy, *accuracies), (difference, *differences) = (sums / len(tokens)).tolist()
    return pl.DataFrame(
        {
            "kind": [part.kind for part in wanted],
            "block": [part.block for part in wanted],
            "head": [part.head for part in wanted],
            "accuracy": accuracies,
            "accuracy_lost": [accuracy - own for own in accuracies],
            "difference": differences,
            "difference_lost": [difference - own for own in differences],
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
    sums = torch.zeros(1 + len(wanted), dtype=torch.float64)
    for start in range(0, len(texts.tokens), piece):
        rows = (texts.items >= start) & (texts.items < start + piece)
        items, positions = texts.items[rows] - start, texts.positions[rows]
        seen = texts.tokens[start : start + piece, : int(positions.max()) + 1]
        whole = _Whole(model, seen, items, positions)
        for place, part in enumerate((None, *wanted)):
            logits = whole.logits if part is None else whole.without(part, means)
            sums[place] += float(F.cross_entropy(logits.float(), texts.targets[rows], reduction="sum"))
    found = (sums / len(texts.targets)).tolist()
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


class _Whole:
    """A forward pass of the whole model, kept so that a model without a part begins in the middle of it.

    Attributes:
        logits: of the places that are asked for.
    """

    logits: Float[Tensor, "row vocabulary"]

    def __init__(self, model: HuggingFaceModel, tokens: Tokens, items: Rows, positions: Rows) -> None:
        self.model, self.asked = model, (tokens, items, positions)
        self._given: dict[int, Any] = {}
        self._mixed: dict[int, Tensor] = {}
        self._attended: dict[int, tuple[Any, ...]] = {}

        with ExitStack() as stack:
            for block in range(model.blocks):
                for handle in self._kept(block):
                    stack.callback(handle.remove)
            self.logits = model.logits_at(*self.asked)

    def _kept(self, block: int) -> Iterator[Any]:
        """Hooks that keep what a block gives, what its attention gives, and what that's matrix reads."""

        def given(module: Any, read: Any, output: Any) -> None:
            self._given[block] = output

        def attended(module: Any, read: Any, output: tuple[Any, ...]) -> None:
            self._attended[block] = output

        def mixed(module: Any, read: tuple[Any, ...]) -> None:
            self._mixed[block] = read[0]

        yield self.model.block(block).register_forward_hook(given)
        yield _attention(self.model, block).register_forward_hook(attended)
        yield _writers(self.model, block)[0].register_forward_pre_hook(mixed)

    def without(self, part: Part, means: dict[str, Tensor]) -> Float[Tensor, "row vocabulary"]:
        """Logits of the same places without a part."""
        block, writer = part.block, _writers(self.model, part.block)[0]

        def before(*read: Any, **named: Any) -> Any:
            return self._given[block - 1]

        def attended(*read: Any, **named: Any) -> tuple[Any, ...]:
            return (writer(self._mixed[block]), *self._attended[block][1:])

        with ExitStack() as stack:
            for earlier in range(block):
                stack.enter_context(computing(self.model.block(earlier), before))
            stack.enter_context(computing(_attention(self.model, block), attended))
            for module, hook in _edits(self.model, part, means):
                stack.callback(hook(module).remove)
            return self.model.logits_at(*self.asked)


def _answered(logits: Float[Tensor, "batch answer"], right: Int[Tensor, "batch"]) -> Float[Tensor, "measure"]:
    """How many are right, and the sum of the right answer's logit less the highest other."""
    exact, own = logits.double(), right[:, None]
    other = exact.scatter(1, own, -torch.inf).amax(1)
    hits = (exact.argmax(1) == right).sum()
    return torch.stack([hits.double(), (exact.gather(1, own)[:, 0] - other).sum()]).cpu()


def _attention(model: HuggingFaceModel, block: int) -> Any:
    return model.block(block).get_submodule(model.places.attention)


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
    inside = torch.arange(tokens.shape[1], device=tokens.device) <= at[:, None]
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
            model.module.base_model(input_ids=some, use_cache=False)
    return {name: (total / inside.sum()).float() for name, total in sums.items()}
