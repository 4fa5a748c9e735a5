"""Operating on single weights: addresses for all of a model's weights, edits, and scoring the edited.

Every analysis here asks what a model does after some of its weights got other values: zero (pruning)
or another model's (grafting). An edit is a set of addresses in the flat vector of trained weights;
edited models become members of one fleet, so that many are scored by the same matrix products.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.finetune.fleet import EVALUATED
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Batch
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import OPERANDS, Kind

LINEAR = ("query", "key", "value", "output", "mlp_in", "mlp_out", "unembedding")
"""Matrices that map inputs (rows) to output units (columns)."""
READS = ("query", "key", "value", "mlp_in", "unembedding")
"""Matrices whose rows are directions of the residual stream (but for norms, which stand between)."""
WRITES = ("output", "mlp_out", "token_embedding", "position_embedding")
"""Matrices whose columns, and biases, are directions of the residual stream."""


@dataclass(frozen=True)
class Part:
    """One parameter of a member within the flat vector.

    Attributes:
        name: as in the model's ``state_dict``, e.g. "blocks.1.query.weight".
        start: where it begins.
        rows: inputs (or tokens, positions); 1 for biases and norms.
        columns: output units.
    """

    name: str
    start: int
    rows: int
    columns: int

    @property
    def block(self) -> int | None:
        """The block it is in, if any."""
        return int(self.name.split(".")[1]) if self.name.startswith("blocks.") else None

    @property
    def matrix(self) -> str:
        """What it belongs to: "query", "mlp_in", "norm_final", "token_embedding", ..."""
        return self.name.removeprefix(f"blocks.{self.block}.").removesuffix(".weight").removesuffix(".bias")

    @property
    def component(self) -> str:
        """``matrix`` with its block in front: a matrix and its bias share it."""
        return self.name.removesuffix(".weight").removesuffix(".bias")

    @property
    def stop(self) -> int:
        """Where the next one begins."""
        return self.start + self.rows * self.columns

    @property
    def has_units(self) -> bool:
        """Whether its columns are output units of a matrix (neurons)."""
        return self.matrix in LINEAR and not self.name.endswith(".bias")

    def addresses(
        self, rows: slice = slice(None), columns: slice = slice(None), device: torch.device | None = None
    ) -> Int[Tensor, "address"]:
        """Addresses of a rectangle of its weights, row by row."""
        own = torch.arange(self.start, self.stop, device=device).view(self.rows, self.columns)
        return own[rows, columns].flatten()

    def of(self, flat: Float[Tensor, "member weight"]) -> Float[Tensor, "member row column"]:
        """Its values."""
        return flat[:, self.start : self.stop].unflatten(1, (self.rows, self.columns))


@dataclass(frozen=True)
class Layout:
    """Where each trained parameter of a configuration lies in the flat vector, in the model's order."""

    parts: tuple[Part, ...]

    @staticmethod
    def of(model: Transformer) -> "Layout":
        """The layout of a fleet's members. A fixed unembedding is no part of it."""
        parts, start = [], 0
        for name, parameter in model.named_parameters():
            if not _is_trained(model, name):
                continue
            rows, columns = parameter.shape[1:] if parameter.ndim == 3 else (1, parameter.shape[1])
            parts.append(Part(name, start, rows, columns))
            start = parts[-1].stop
        return Layout(tuple(parts))

    @property
    def size(self) -> int:
        """Number of trained weights of one member."""
        return self.parts[-1].stop

    def flatten(self, model: Transformer) -> Float[Tensor, "member weight"]:
        """All trained weights of every member (a copy)."""
        parameters = dict(model.named_parameters())
        return torch.cat([parameters[part.name].detach().flatten(1) for part in self.parts], 1)

    def find(self, address: int) -> tuple[Part, int, int]:
        """Part, row and column of a weight."""
        part = self.parts[bisect_right([part.start for part in self.parts], address) - 1]
        return part, *divmod(address - part.start, part.columns)

    def name(self, address: int) -> str:
        """A weight's name, such as "blocks.1.query.weight[12, 3]"."""
        part, row, column = self.find(address)
        return f"{part.name}[{row}, {column}]"

    def neurons(self) -> list[tuple[Part, int]]:
        """All output units: a weight matrix and a column.

        The weights act from the right, so a column here is what a row is in the matrices of
        ``torch.nn.Linear``, after which the paper names it.
        """
        return [(part, column) for part in self.parts if part.has_units for column in range(part.columns)]

    def build(self, model: Transformer, flat: Float[Tensor, "candidate weight"]) -> Transformer:
        """A fleet with these trained weights; the rest is that of ``model``'s first member.

        Its parameters are views into ``flat``.
        """
        with torch.device("meta"):
            fleet = Transformer(model.config, flat.shape[0])
        fixed = model.unembedding.detach()[:1].expand(flat.shape[0], -1, -1)
        values = {"unembedding": fixed} | {part.name: part.of(flat) for part in self.parts}
        shapes = {name: parameter.shape for name, parameter in fleet.named_parameters()}
        state = {name: value.reshape(shapes[name]) for name, value in values.items()}
        fleet.load_state_dict(state, assign=True)
        return fleet.requires_grad_(False)


def _is_trained(model: Transformer, name: str) -> bool:
    return name != "unembedding" or model.config.unembedding == "trained"


def check_finite(field: str, model: Transformer) -> None:
    """Refuse fleets with a member that diverged.

    Raises:
        InputError: a weight that is not finite; names the members.
    """
    finite = torch.stack([p.isfinite().flatten(1).all(1) for p in model.parameters()]).all(0)
    if not finite.all():
        found = "member " + ", ".join(str(i) for i in (~finite).nonzero().flatten().tolist())
        raise InputError(field, found, "members with finite weights", "it diverged; leave it out")


def check_alike(before: Transformer, after: Transformer, field: str = "before") -> Transformer:
    """``before`` with as many members as ``after``: a single one stands for all of them.

    Raises:
        InputError: another configuration, another number of members, weights that are not finite, or
            fixed unembeddings that differ.
    """
    check_finite("after", after)
    check_finite(field, before)
    if before.config != after.config:
        raise InputError(field, str(before.config), f"the fine-tuned model's shape, {after.config}")
    if before.members not in (1, after.members):
        raise InputError(field, f"{before.members} members", f"1 or {after.members}, one per fine-tuned one")
    if before.members != after.members:
        before = before.select([0] * after.members)
    before = before.to(after.token_embedding)
    fixed = before.config.unembedding == "fixed"
    if fixed and not torch.equal(before.unembedding, after.unembedding):
        raise InputError(field, "another fixed unembedding", "the model that the other was fine-tuned from")
    return before


@dataclass(frozen=True)
class Scored:
    """What edited models do.

    Attributes:
        accuracy: share right, by edit, kind of text (``EVALUATED``) and operand (``OPERANDS``).
        predicted: share of each predicted class, by edit and kind of text; where the input names
            the operand, when it names O_PT.
    """

    accuracy: Float[Tensor, "edit kind 2"]
    predicted: Float[Tensor, "edit kind classes"]


@torch.no_grad()
def score(
    model: Transformer,
    donor: Float[Tensor, "1 weight"],
    edits: Sequence[Int[Tensor, "_"]],
    sets: dict[Kind, tuple[Batch, ...]],
    answer: int,
    size: int = 16,
) -> Scored:
    """Accuracy after each edit, which puts the donor's values at the edit's addresses.

    Args:
        model: a fleet of one.
        donor: where values come from.
        edits: addresses; an empty edit leaves the model as it is.
        sets: what is asked (``veneer.finetune.fleet.evaluation_sets``).
        answer: position at which answers are read.
        size: edited models per fleet.
    """
    accuracies, histograms = [], []
    for fleet in edited(model, donor, edits, size):
        scored = [_score_kind(fleet, sets[kind], answer) for kind in EVALUATED]
        accuracies.append(torch.stack([right for right, _ in scored], 1))
        histograms.append(torch.stack([shares for _, shares in scored], 1))
    return Scored(torch.cat(accuracies), torch.cat(histograms))


def edited(
    model: Transformer, donor: Float[Tensor, "1 weight"], edits: Sequence[Int[Tensor, "_"]], size: int = 16
) -> Iterator[Transformer]:
    """Fleets of edited models, ``size`` of them at a time; arguments as in ``score``.

    Fleets of one size are one fleet whose weights change: each is to be used before the next is asked for.
    """
    layout = Layout.of(model)
    base = layout.flatten(model)
    flat = base.repeat(min(size, len(edits)), 1)
    fleet = layout.build(model, flat)
    for start in range(0, len(edits), size):
        chunk = edits[start : start + size]
        if len(chunk) < len(flat):
            flat = flat[: len(chunk)]
            fleet = layout.build(model, flat)
        flat.copy_(base.expand_as(flat))
        for row, edit in zip(flat, chunk, strict=True):
            row[edit] = donor[0, edit]
        yield fleet


def _score_kind(
    fleet: Transformer, batches: tuple[Batch, ...], answer: int
) -> tuple[Float[Tensor, "member 2"], Float[Tensor, "member classes"]]:
    """Accuracy on both operands, each where it is asked for, and the shares of predicted classes."""
    predictions = [predict(fleet, batch.tokens, answer) for batch in batches]
    pairs = zip(predictions, batches, strict=True)
    right = [(found.unsqueeze(-1) == batch.results).double().mean(1) for found, batch in pairs]
    both = right[0] if len(right) == 1 else torch.stack([right[0][:, 0], right[1][:, 1]], -1)
    return both, class_shares(predictions[0], fleet.config.classes)


def class_shares(found: Int[Tensor, "member batch"], classes: int) -> Float[Tensor, "member classes"]:
    """How often each class occurs."""
    counts = torch.zeros(found.shape[0], classes, dtype=torch.float64, device=found.device)
    return counts.scatter_add_(1, found, torch.ones_like(found, dtype=torch.float64)) / found.shape[1]


def predict(
    fleet: Transformer, tokens: Int[Tensor, "1 batch position"], answer: int
) -> Int[Tensor, "member batch"]:
    """The class each member gives to each text."""
    pieces = [
        fleet(piece.expand(fleet.members, -1, -1), answer=answer).logits.argmax(-1)
        for piece in _pieces(tokens, fleet.members)
    ]
    return torch.cat(pieces, 1)


def _pieces(tokens: Int[Tensor, "1 batch position"], members: int, rows: int = 32768) -> Iterator[Tensor]:
    """Texts in pieces of about ``rows`` token rows over all members, to stay within caches."""
    size = max(1, rows // (members * tokens.shape[-1]))
    yield from tokens.split(size, dim=1)


def accuracy_rows(keys: list[dict[str, object]], scored: Scored) -> list[dict[str, object]]:
    """A row per edit, kind of text and operand."""
    values = scored.accuracy.tolist()
    return [
        {**key, "texts": kind, "operand": operand, "accuracy": value[i][j]}
        for key, value in zip(keys, values, strict=True)
        for i, kind in enumerate(EVALUATED)
        for j, operand in enumerate(OPERANDS)
    ]
