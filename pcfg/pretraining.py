"""Pretraining: a GPT learns all task families from samples of a grammar (Jain et al. 2024, App. B.2).

Next-token prediction on samples drawn on the fly. Several operand priors and seeds train as one fleet.
While it trains, the answers to every family and operand are scored on fixed sets of natural text.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.finetune.captured import Course
from veneer.finetune.fleet import EVALUATION_SEED, evaluate_sets
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import Scores, training_forward
from veneer.finetune.turns import Part, slices
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Output, Transformer
from veneer.pcfg.families import Pretraining, PretrainingBatch, SampleLayout
from veneer.tasks import random
from veneer.tasks.encoding import Batch

PRIORS: dict[str, tuple[float, ...]] = {
    "L": (0.999, 0.001, 0.0),
    "M": (0.9, 0.1, 0.0),
    "H": (0.5, 0.3, 0.2),
}
"""P_T(O) of a, b and c (App. B.2): how often O_FT = b is asked for is low, medium or high."""


def gpt(layout: SampleLayout, width: int, blocks: int, heads: int) -> TransformerConfig:
    """The GPT that reads a layout: minGPT's proportions, as many positions as a sample has."""
    return TransformerConfig.gpt(len(layout.vocabulary), layout.length, width, blocks, heads)


def questions(layout: SampleLayout) -> list[tuple[int, int]]:
    """What a pretrained model can be asked: pairs of task token and operand (T knows no operand)."""
    return [
        (i, operand)
        for i, token in enumerate(layout.task_tokens)
        for operand in range(1 if token.family == "T" else len(layout.grammar.terminals))
    ]


def question_name(layout: SampleLayout, question: tuple[int, int]) -> str:
    """A question in words: "T_C a"."""
    token = layout.task_tokens[question[0]]
    return token.name if token.family == "T" else f"{token.name} {layout.grammar.terminals[question[1]]}"


def question_batch(
    layout: SampleLayout, question: tuple[int, int], samples: int, device: torch.device
) -> Batch:
    """One question asked of natural texts, as a batch of one member; both results are its answer."""
    key = random.stream_key(
        f"pcfg/{layout.grammar.name}/{layout.window}", EVALUATION_SEED, "evaluate/families"
    )
    text = layout.sampler.windows(torch.tensor([key], device=device), samples, layout.window)
    task_token, operand = (torch.full(text.shape[:2], index, device=device) for index in question)
    family = layout.task_tokens[question[0]].family
    answer = layout.answer_id(family, layout.answer(family, text, operand))
    front = torch.full((1, samples, 1), layout.id["SOS"], device=device)
    tokens = torch.cat([front, layout.prompt(task_token, operand, text)], -1)
    return Batch(tokens, answer, torch.stack([answer, answer], -1))


def _masked_sum(
    output: Output, targets: Int[Tensor, "member batch target"], mask: Bool[Tensor, "member batch target"]
) -> Float[Tensor, "member"]:
    """Cross-entropy of the targets that count, added up."""
    logits = output.logits.float()
    loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none").view(targets.shape)
    return (loss * mask).sum((1, 2))


def _share(batch: PretrainingBatch, rows: slice, model: Transformer) -> Float[Tensor, ""]:
    """What some of one member's samples add to its loss."""
    found = _masked_sum(model(batch.inputs[:, rows]), batch.targets[:, rows], batch.mask[:, rows])
    return found[0] / batch.mask.sum()


@dataclass
class PretrainingJob:
    """A fleet that pretrains (see ``veneer.finetune.trainer.Job``).

    Attributes:
        model: the members as they start.
        data: each member's samples; all of one layout.
        seeds: each member's seed.
        recipe: shared by all.
        steps: after how many updates to score the questions, ascending.
        samples: texts per question.
        keep: called with the step, the models and their accuracies by question at every evaluation.
        checkpoint: file to keep the state in while training; None keeps none.
        checkpoint_seconds: least time between two of them.
        progress: called with the number of updates done.
        compile: whether to compile the forward pass that is trained through.
    """

    model: Transformer
    data: list[Pretraining]
    seeds: list[int]
    recipe: Recipe
    steps: tuple[int, ...]
    samples: int = 500
    keep: Callable[[int, Transformer, Tensor], None] = field(default=lambda step, model, accuracy: None)
    checkpoint: Path | None = None
    checkpoint_seconds: float = 30.0
    progress: Callable[[int], None] = field(default=lambda step: None)
    compile: bool = False

    @property
    def layout(self) -> SampleLayout:
        """The members' common layout."""
        return self.data[0].layout

    @property
    def rates(self) -> list[float]:
        """The recipe's rate for all."""
        return [self.recipe.learning_rate] * len(self.data)

    @property
    def shape(self) -> tuple[int, int]:
        """Questions, and one column."""
        return len(questions(self.layout)), 1

    def prepare(self) -> None:
        """All parameters are trained."""

    @cached_property
    def _forward(self) -> Callable[..., Output]:
        return training_forward(self.model, self.compile)

    def batches(self, start: int) -> Iterator[list[PretrainingBatch]]:
        """Each member's samples: a pure function of (layout, prior, seed, step).

        They are drawn by the processor: a thousand small operations, twice as many as a forward and backward
        pass has, which a GPU starts one by one.
        """
        device = self.model.token_embedding.device
        roots = [
            random.stream_key(data.name, seed, "pretrain")
            for data, seed in zip(self.data, self.seeds, strict=True)
        ]
        for step in range(start, self.recipe.iterations):
            keys = [torch.tensor([random.step_key(root, step)]) for root in roots]
            drawn = (data.draw(key, self.recipe.batch) for data, key in zip(self.data, keys, strict=True))
            yield [batch.to(device) for batch in drawn]

    def loss(self, batch: list[PretrainingBatch], step: int = 0) -> Float[Tensor, "member"]:
        """Next-token cross-entropy, averaged over each member's targets that are not padding."""
        inputs = torch.cat([part.inputs for part in batch])
        targets = torch.cat([part.targets for part in batch])
        mask = torch.cat([part.mask for part in batch])
        return _masked_sum(self._forward(inputs), targets, mask) / mask.sum((1, 2))

    def worked_out(self, batch: list[PretrainingBatch]) -> None:
        """GPTs are differentiated by autograd."""

    def captured(self, optimizer: FleetOptimizer, course: Course, step: int) -> None:
        """GPTs fill a GPU kernel by kernel."""

    def parts(self, batch: list[PretrainingBatch], step: int = 0) -> list[list[Part]]:
        """The same loss in slices of each member's samples."""
        return [[partial(_share, own, rows) for rows in slices(*own.inputs.shape[1:])] for own in batch]

    @cached_property
    def _sets(self) -> list[Batch]:
        device = self.model.token_embedding.device
        return [question_batch(self.layout, q, self.samples, device) for q in questions(self.layout)]

    def evaluate(self, cores: int = 1) -> Scores:
        """Accuracy and loss of the answers: [member, question, 1] each."""
        right, loss = evaluate_sets(
            self.model, [(batch,) for batch in self._sets], self.layout.answer_position, cores
        )
        return right[..., :1], loss[..., :1]

    def reached(self, step: int, accuracy: Float[Tensor, "member question 1"]) -> None:
        """Hand over the models and their scores."""
        self.keep(step, self.model, accuracy[..., 0])

    def finish(self) -> Transformer:
        """The models as they are."""
        return self.model
