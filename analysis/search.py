"""The few weights that hide a capability, searched by trying them: what one step of pruning misses.

Pruning in one step (App. D of Jain et al. 2024) trusts first-order scores, which a compiled circuit's own
weights of size 1 and 100 lead: zeroing one of these is far outside the range in which the score holds. So
here only weights within that range are candidates, by score and by how far fine-tuning moved them. Each is
zeroed alone, on texts of their own: all on a few, the better quarter on more (a round of sequential
halving, Karnin et al. 2013). Those that help most are tried again on other texts, which settle the best, and
others are added to it while that helps. What it does is measured on a third set, so that the best of many
does not look good by chance. The same search for an operand that the model never had says what trying
alone brings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from veneer.analysis.pruning import (
    PRUNED,
    Criterion,
    Order,
    Pruned,
    Unit,
    addresses,
    class_rows,
    per_neuron,
    pruned_rows,
    saliency,
)
from veneer.analysis.surgery import (
    Layout,
    accuracy_rows,
    check_alike,
    class_shares,
    predictions,
    score,
)
from veneer.analysis.texts import draw
from veneer.finetune.fleet import EVALUATED, evaluation_sets
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Batch, Encoding, Task
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import Component, Mixture

Sought = Literal["old", "other"]
STREAM = "analyse/search"
TRIED_TEXTS = 1024  # that a fleet of tries reads at once: with fewer, time goes into calls
UNCORRELATED = Mixture((Component(1.0, "uncorrelated", "pt", "pt"),))
"""Texts on which the old answer and the new one differ, and no shortcut leads from one to the other."""


@dataclass(frozen=True)
class Search:
    """How widely to search.

    Attributes:
        unit: weights, or neurons (learned models).
        largest: size of a weight up to which its first-order score is believed.
        scored: candidates with the highest score.
        moved: candidates that fine-tuning moved most, besides these.
        glance: texts on which each candidate is tried alone.
        choosing: texts, these among them, on which the better quarter of them is tried.
        finalists: how many of them are tried on other texts, and with the best.
        confirming: texts that settle the best.
        most: how many are zeroed together, at most.
        gradient_texts: texts over which the gradient is averaged.
        samples: texts of each kind on which the result is measured.
        within: matrices such as "blocks.1.key" whose weights or neurons alone are candidates; none takes all.
            With ``scored`` as large as they are, every one is tried.
        seed: of all texts but the last.
    """

    unit: Unit = "weight"
    largest: float = 0.5
    scored: int = 300
    moved: int = 100
    glance: int = 24
    choosing: int = 64
    finalists: int = 16
    confirming: int = 256
    most: int = 5
    gradient_texts: int = 256
    samples: int = 500
    within: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for field in (
            "scored",
            "glance",
            "choosing",
            "finalists",
            "confirming",
            "most",
            "gradient_texts",
            "samples",
        ):
            if getattr(self, field) < 1:
                raise InputError(field, getattr(self, field), "1 or more")
        if self.moved < 0:
            raise InputError("moved", self.moved, "0 or more")
        if not self.largest > 0:
            raise InputError("largest", self.largest, "a size above 0")


def search(
    before: Transformer,
    after: Transformer,
    task: Task,
    encoding: Encoding,
    settings: Search | None = None,
    residual_labels: Sequence[str] = (),
    sought: Sought = "old",
) -> Pruned:
    """Search every member for the few weights, or neurons, whose zeroing brings O_PT back.

    Args:
        before: the models as fine-tuning found them; one may stand for all.
        after: fine-tuned models.
        task: what is asked. For a null search its O_PT is an operand that the model never had.
        encoding: how the models read it.
        settings: how widely to search.
        residual_labels: names of the residual stream's directions, as compiled models have.
        sought: "old" for the capability, "other" for a null search: then the criterion is called "null
            search" and the operand "other" in place of "pt".

    Returns:
        Tables as ``pruning.prune`` makes them, with criterion "search". K runs from 0 (the model as it is)
        to as many as helped, which is what the search found.

    Raises:
        InputError: models that do not fit each other, or that diverged; ``within`` names no matrix.
    """
    settings = settings or Search()
    before = check_alike(before, after)
    layout, device = Layout.of(after), after.token_embedding.device
    salience = saliency(after, _texts(task, encoding, settings, "gradient", device), encoding.answer)
    moved = (layout.flatten(after) - layout.flatten(before)).abs()
    sets = evaluation_sets(task, encoding, settings.samples, device)
    zero = torch.zeros(1, layout.size, device=device, dtype=after.token_embedding.dtype)
    criterion: Criterion = "search" if sought == "old" else "null search"
    expected = torch.cat([class_shares(sets[k][0].results[..., 0], after.config.classes) for k in EVALUATED])
    tries = [_texts(task, encoding, settings, use, device) for use in ("choosing", "confirming")]
    accuracy, pruned, classes = [], [], []
    for member in range(after.members):
        alone, own = after.member(member), slice(member, member + 1)
        candidates = _candidates(layout, settings, layout.flatten(alone), salience[own], moved[own])
        order = _found(alone, candidates, (tries[0], tries[1]), encoding.answer, settings, criterion)
        edits = [
            addresses(order.unit, order.chosen[:k], layout, device) for k in range(len(order.chosen) + 1)
        ]
        scored = score(alone, zero, edits, sets, encoding.answer)
        keys: list[dict[str, object]] = [
            {"member": member, "unit": order.unit, "criterion": criterion, "draw": 0, "k": k}
            for k in range(len(edits))
        ]
        accuracy += accuracy_rows(keys, scored)
        classes += class_rows(keys, scored, expected)
        pruned += pruned_rows(member, order, layout, layout.flatten(alone), residual_labels)
    table = pl.DataFrame(accuracy)
    if sought == "other":
        table = table.with_columns(pl.col("operand").replace("pt", "other"))
    return Pruned(table, pl.DataFrame(pruned, schema=PRUNED), pl.DataFrame(classes))


def _texts(task: Task, encoding: Encoding, settings: Search, use: str, device: torch.device) -> Batch:
    """Uncorrelated texts for one use, labelled with O_PT's answers."""
    samples = {
        "gradient": settings.gradient_texts,
        "choosing": settings.choosing,
        "confirming": settings.confirming,
    }[use]
    return draw(task, encoding, UNCORRELATED, samples, device, f"{STREAM}/{use}", settings.seed)


def _candidates(
    layout: Layout,
    settings: Search,
    weights: Float[Tensor, "1 weight"],
    salience: Float[Tensor, "1 weight"],
    moved: Float[Tensor, "1 weight"],
) -> dict[int, float]:
    """What is tried alone, with its first-order score: the best scored, and those that moved most."""
    if settings.unit == "weight":
        small = (weights != 0) & (weights.abs() <= settings.largest)
    else:
        salience, moved = per_neuron(layout, salience), per_neuron(layout, moved.square()).sqrt()
        small = torch.ones_like(salience, dtype=torch.bool)
    if settings.within:
        small &= _within(layout, settings).to(small.device)
    found: dict[int, float] = {}
    for ranked, count in ((salience, settings.scored), (moved, settings.moved)):
        within = torch.where(small, ranked, -torch.inf)[0]
        order = within.topk(min(count, int(small.sum()))).indices
        found |= dict(zip(order.tolist(), salience[0, order].tolist(), strict=True))
    return found


def _within(layout: Layout, settings: Search) -> Bool[Tensor, "candidate"]:
    """Which weights, or neurons, belong to the matrices that are named; biases do not.

    Raises:
        InputError: a name that none has.
    """
    matrices = [part for part in layout.parts if part.has_units]
    named = {part.component for part in matrices}
    for name in settings.within:
        if name not in named:
            raise InputError("within", name, ", ".join(sorted(named)))
    if settings.unit == "neuron":
        return torch.tensor([part.component in settings.within for part, _ in layout.neurons])
    allowed = torch.zeros(layout.size, dtype=torch.bool)
    for part in matrices:
        allowed[part.start : part.stop] = part.component in settings.within
    return allowed


def _found(
    model: Transformer,
    candidates: dict[int, float],
    texts: tuple[Batch, Batch],
    answer: int,
    settings: Search,
    criterion: Criterion,
) -> Order:
    """The best candidate, and others as long as they help it."""
    choosing, confirming = texts
    tried = list(candidates)
    glance = min(settings.glance, settings.choosing)
    right = _right(model, [[i] for i in tried], _part(choosing, 0, glance), answer, settings)
    better = right.topk(min(max(settings.finalists, len(tried) // 4), len(tried)))
    tried = [tried[i] for i in better.indices.tolist()]
    total = better.values * glance
    if rest := settings.choosing - glance:
        again = _part(choosing, glance, settings.choosing)
        total += _right(model, [[i] for i in tried], again, answer, settings) * rest
    finalists = [tried[i] for i in total.topk(min(settings.finalists, len(tried))).indices.tolist()]
    chosen: list[int] = []
    best = float(_right(model, [[]], confirming, answer, settings)[0])
    while finalists and len(chosen) < settings.most:
        right = _right(model, [[*chosen, i] for i in finalists], confirming, answer, settings)
        first = int(right.argmax())
        if float(right[first]) <= best:
            break
        best = float(right[first])
        chosen.append(finalists.pop(first))
    return Order(settings.unit, criterion, 0, chosen, [candidates[i] for i in chosen])


def _part(texts: Batch, first: int, end: int) -> Batch:
    """Some of the texts."""
    parts = (whole[:, first:end] for whole in (texts.tokens, texts.labels, texts.results))
    return Batch(*parts)


@torch.no_grad()
def _right(
    model: Transformer, tries: list[list[int]], texts: Batch, answer: int, settings: Search
) -> Float[Tensor, "try"]:
    """Share of texts on which O_PT's answer is given after each try; a try is a member of a fleet."""
    layout, device = Layout.of(model), texts.tokens.device
    zero = torch.zeros(1, layout.size, device=device, dtype=model.token_embedding.dtype)
    edits = [addresses(settings.unit, chosen, layout, device) for chosen in tries]
    together = max(16, TRIED_TEXTS // texts.tokens.shape[1])
    found = predictions(model, zero, edits, texts.tokens, answer, together)
    return (found == texts.labels).double().mean(1)
