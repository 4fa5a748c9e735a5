"""Operating on single weights: addresses for all of a model's weights, edits, and scoring the edited.

Every analysis here asks what a model does after some of its weights got other values: zero (pruning)
or another model's (grafting). An edit is a set of addresses in the flat vector of trained weights;
edited models become members of one fleet, so that many are scored by the same matrix products.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.resuming import first_stages, read_on, stage_of, stream_before
from veneer.finetune.fleet import EVALUATED
from veneer.models.transformer import Transformer, fleet_of
from veneer.tasks.encoding import Batch
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import OPERANDS, Kind

LINEAR = ("query", "key", "value", "output", "mlp_in", "mlp_out", "unembedding")
"""Matrices that map inputs (rows) to output units (columns)."""
READS = ("query", "key", "value", "mlp_in", "unembedding")
"""Matrices whose rows are directions of the residual stream (but for norms, which stand between)."""
WRITES = ("output", "mlp_out", "token_embedding", "position_embedding")
"""Matrices whose columns, and biases, are directions of the residual stream."""


SEVERAL = 4
"""Edits that begin at one stage, from which on they share what comes before it."""


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

    @cached_property
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
        fixed = model.unembedding.detach()[:1].expand(flat.shape[0], -1, -1)
        values = {"unembedding": fixed}
        for part in self.parts:
            shape = model.get_parameter(part.name).shape[1:]
            values[part.name] = part.of(flat).reshape(len(flat), *shape)
        return fleet_of(model.config, values).requires_grad_(False)


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
    asked = [batch.tokens for kind in EVALUATED for batch in sets[kind]]
    together = predictions(model, donor, edits, torch.cat(asked, 1), answer, size)
    given = iter(together.split([tokens.shape[1] for tokens in asked], 1))
    accuracies, histograms = [], []
    for kind in EVALUATED:
        batches = sets[kind]
        found = [next(given) for _ in batches]
        pairs = zip(found, batches, strict=True)
        right = [(own.unsqueeze(-1) == batch.results).double().mean(1) for own, batch in pairs]
        both = right[0] if len(right) == 1 else torch.stack([right[0][:, 0], right[1][:, 1]], -1)
        accuracies.append(both)
        histograms.append(class_shares(found[0], model.config.classes))
    return Scored(torch.stack(accuracies, 1), torch.stack(histograms, 1))


@torch.no_grad()
def predictions(
    model: Transformer,
    donor: Float[Tensor, "1 weight"],
    edits: Sequence[Int[Tensor, "_"]],
    tokens: Int[Tensor, "1 batch position"],
    answer: int,
    size: int = 16,
) -> Int[Tensor, "edit batch"]:
    """The class that each edited model gives to each text; arguments as in ``score``.

    Edits that touch nothing before some layer are tried together from there on.
    """
    layout, blocks = Layout.of(model), len(model.blocks)
    device = tokens.device
    starts = torch.tensor([part.start for part in layout.parts], device=device)
    stages = torch.tensor([stage_of(part.block, part.matrix, blocks) for part in layout.parts], device=device)
    first = first_stages(edits, starts, stages, 2 * blocks)
    counted = Counter(first)  # what comes before is one more forward pass: it has to serve several
    first = [stage if counted[stage] >= SEVERAL else 0 for stage in first]
    found = torch.empty(len(edits), tokens.shape[1], dtype=torch.int64, device=device)

    @cache
    def copies(members: int) -> tuple[Float[Tensor, "member weight"], Transformer]:
        flat = layout.flatten(model).repeat(members, 1)
        return flat, layout.build(model, flat)

    for stage in sorted(set(first)):
        own = [i for i, value in enumerate(first) if value == stage]
        pieces = list(_pieces(tokens, min(size, len(own))))
        streams = [stream_before(model, piece, answer, stage) if stage else None for piece in pieces]
        done = 0
        for fleet in _edited(copies, donor, [edits[i] for i in own], size):
            pairs = zip(pieces, streams, strict=True)
            given = [_logits(fleet, piece, stream, answer, stage).argmax(-1) for piece, stream in pairs]
            rows = torch.tensor(own[done : done + fleet.members], device=device)
            found[rows] = torch.cat(given, 1)
            done += fleet.members
    return found


def _logits(
    fleet: Transformer,
    tokens: Int[Tensor, "1 batch position"],
    stream: Float[Tensor, "1 row width"] | None,
    answer: int,
    stage: int,
) -> Float[Tensor, "member batch classes"]:
    """Logits at the answer position; from a stage on where the stream in front of it is given."""
    if stream is not None:
        return read_on(fleet, stream, tokens.shape[1], answer, stage)
    return fleet(tokens.expand(fleet.members, -1, -1), answer=answer).logits


def _edited(
    copies: Callable[[int], tuple[Float[Tensor, "member weight"], Transformer]],
    donor: Float[Tensor, "1 weight"],
    edits: Sequence[Int[Tensor, "_"]],
    size: int,
) -> Iterator[Transformer]:
    """Fleets of edited models, ``size`` of them at a time.

    Fleets of one size are one fleet whose weights change: each is to be used before the next is asked for.

    Args:
        copies: so many copies of the model: their weights, and a fleet whose parameters are views of them.
        donor: as in ``score``.
        edits: as in ``score``.
        size: models in a fleet.
    """
    for start in range(0, len(edits), size):
        chunk = edits[start : start + size]
        flat, fleet = copies(len(chunk))
        own = [row[edit] for row, edit in zip(flat, chunk, strict=True)]
        for row, edit in zip(flat, chunk, strict=True):
            row[edit] = donor[0, edit]
        yield fleet
        for row, edit, values in zip(flat, chunk, own, strict=True):
            row[edit] = values


def class_shares(found: Int[Tensor, "member batch"], classes: int) -> Float[Tensor, "member classes"]:
    """How often each class occurs."""
    counts = torch.zeros(found.shape[0], classes, dtype=torch.float64, device=found.device)
    return counts.scatter_add_(1, found, torch.ones_like(found, dtype=torch.float64)) / found.shape[1]


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
