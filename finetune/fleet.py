"""Training on the answers of a task: the job behind fine-tuning, reFT and their kin.

Each member of a fleet has its own mixture, rate and seed. On texts of three kinds both operands are
scored; where the input names the operand (learned capabilities), each is asked for in turn, and
where it does not (compiled ones) one answer is held against both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.finetune.captured import CapturedUpdates, Course
from veneer.finetune.method import FullFineTuning, Method, Step, file_of, merge
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.processor import in_threads
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import Scores, training_forward
from veneer.finetune.turns import Part, slices
from veneer.models.by_hand import can_work_out, cross_entropy_gradient
from veneer.models.transformer import Output, Transformer
from veneer.tasks import random
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Batch, Encoding, Task, accuracy
from veneer.tasks.errors import InputError
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import OPERANDS, Component, Kind, Mixture, Mixtures, Operand, pretraining
from veneer.tasks.user_code import running

EVALUATED: tuple[Kind, ...] = ("correlated", "uncorrelated", "natural")
NEVER_WAIT = (Counter, MaxIdentifier)  # tasks whose texts are drawn without anything waiting for the device
SMALL_FLEET = 4  # members that a CPU trains together at the least
EVALUATION_SEED = 0  # evaluation sets are the same for all rates and stages, and unless said for all seeds


@dataclass(frozen=True)
class Member:
    """One model's part in a fleet.

    Attributes:
        mixture: its training data.
        learning_rate: its maximal rate.
        seed: seeds its data.
    """

    mixture: Mixture
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Evaluation:
    """Sets of texts of one kind each, on which both operands are scored.

    Attributes:
        samples: texts per kind.
        steps: after how many updates to evaluate, ascending.
        own: whether each seed has texts of its own.
    """

    samples: int
    steps: tuple[int, ...]
    own: bool = False


@dataclass
class FleetJob:
    """All that a fleet needs to train on a task (see ``veneer.finetune.trainer.Job``).

    Attributes:
        model: the members as they start; the trainer takes it over.
        members: one entry per member of ``model``.
        recipe: shared by all, but for the learning rate.
        task: what is asked.
        encoding: how the models read the task.
        stream: names the stage, so that stages do not share training data.
        evaluation: what is measured when.
        method: what moves, and down which loss.
        checkpoint: file to keep the state in while training; None keeps none.
        checkpoint_seconds: least time between two of them.
        progress: called with the number of updates done.
        compile: whether to compile the forward pass that is trained through.
        told: called at each evaluation with the update, and accuracies by member, kind of text and operand.
    """

    model: Transformer
    members: list[Member]
    recipe: Recipe
    task: Task
    encoding: Encoding
    stream: str
    evaluation: Evaluation
    checkpoint: Path | None = None
    checkpoint_seconds: float = 30.0
    progress: Callable[[int], None] = field(default=lambda step: None)
    method: Method = field(default_factory=FullFineTuning)
    compile: bool = False
    told: Callable[[int, Tensor], None] = field(default=lambda step, accuracy: None)

    shape = (len(EVALUATED), len(OPERANDS))

    @property
    def rates(self) -> list[float]:
        """Each member's learning rate."""
        return [member.learning_rate for member in self.members]

    @property
    def steps(self) -> tuple[int, ...]:
        """When to evaluate."""
        return self.evaluation.steps

    @cached_property
    def _sets(self) -> "dict[Kind, tuple[Batch, ...]]":
        device = self.model.token_embedding.device
        seeds = [member.seed for member in self.members] if self.evaluation.own else [EVALUATION_SEED]
        if len(set(seeds)) == 1:
            seeds = seeds[:1]
        return evaluation_sets(self.task, self.encoding, self.evaluation.samples, device, seeds)

    def prepare(self) -> None:
        """Let the method say what moves.

        Raises:
            InputError: nothing does, or the method's settings do not fit the model.
        """
        _ = self._start, self._trained  # as they are before the method comes
        with self._users_code():
            self.method.prepare(self.model, [member.seed for member in self.members])
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise InputError("method", str(self.method), "one that leaves a parameter to train")

    def finish(self) -> Transformer:
        """The members as ordinary Transformers."""
        self.model = merge(self.model, self._trained)
        return self.model

    @cached_property
    def _start(self) -> Transformer:
        return self.model.select(list(range(self.model.members))).requires_grad_(False)

    @cached_property
    def _trained(self) -> dict[str, bool]:
        return {name: parameter.requires_grad for name, parameter in self.model.named_parameters()}

    @cached_property
    def _forward(self) -> Callable[..., Output]:
        return training_forward(self.model, self.compile)

    def batches(self, start: int) -> Iterator[Batch]:
        """Training data: a pure function of (task, seed, stream, step)."""
        draw = self._drawer([member.mixture for member in self.members], f"train/{self.stream}")
        for step in range(start, self.recipe.iterations):
            yield draw(step)

    @cached_property
    def _draw_old(self) -> Callable[[int], Batch]:
        return self._drawer([pretraining()] * len(self.members), f"old/{self.stream}")

    def _drawer(self, parts: list[Mixture], stream: str) -> Callable[[int], Batch]:
        """A stream of batches with one mixture for each member, by step."""
        device = self.model.token_embedding.device
        roots, draw = self._stream(parts, stream)
        return lambda step: draw(torch.tensor([random.step_key(root, step) for root in roots], device=device))

    def _stream(
        self, parts: list[Mixture], stream: str
    ) -> tuple[list[int], Callable[[Int[Tensor, "member"]], Batch]]:
        """The stream's key of each member, and what draws a batch by the keys of a step."""
        mixtures = Mixtures(parts, self.model.token_embedding.device)
        roots = [random.stream_key(self.task.name, member.seed, stream) for member in self.members]
        return roots, lambda keys: self.encoding.encode(self.task.draw(keys, mixtures, self.recipe.batch))

    def loss(self, batch: Batch, step: int = 0) -> Float[Tensor, "member"]:
        """The method's loss of each member at an update.

        Raises:
            InputError: the method gives something other than one number per member.
        """
        seen = Step(self.model, self._start, batch, step, self.encoding.answer, self._forward, self._draw_old)
        with self._users_code():
            loss = self.method.loss(seen)
        valid = f"a loss for each of the {len(self.members)} members, as a tensor"
        if not isinstance(loss, Tensor) or loss.shape != (len(self.members),):
            shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError("method", str(self.method), valid, f"its loss gives {shape}")
        if not (loss.is_floating_point() and loss.requires_grad):
            problem = f"its loss ({loss.dtype}) depends on no weight that moves"
            raise InputError("method", str(self.method), valid, problem)
        return loss

    def _users_code(self) -> AbstractContextManager[None]:
        """While a method that a user wrote is at work, its faults are told as the user's."""
        file = file_of(type(self.method))
        if file is None:
            return nullcontext()
        return running(file, "method", str(self.method), "a method that trains this model", None)

    def worked_out(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "member"], Float[Tensor, "member parameter"]] | None:
        """Loss and gradient of written models that are fine-tuned as they come; or nothing."""
        if not self._is_worked_out:
            return None
        return cross_entropy_gradient(self.model, batch.tokens, batch.labels, self.encoding.answer)

    @cached_property
    def _is_worked_out(self) -> bool:
        as_it_comes = type(self.method) is FullFineTuning and self.recipe.precision == "float32"
        return as_it_comes and not self.compile and can_work_out(self.model)

    def captured(self, optimizer: FleetOptimizer, course: Course, step: int) -> CapturedUpdates | None:
        """On a GPU, updates of written models on a task that draws without waiting; or nothing."""
        on_gpu = self.model.token_embedding.device.type == "cuda"
        drawn = isinstance(self.task, NEVER_WAIT) and self.recipe.optimizer == "sgd"
        if not (on_gpu and drawn and self._is_worked_out):
            return None
        roots, draw = self._stream([member.mixture for member in self.members], f"train/{self.stream}")

        def work(keys: Int[Tensor, "member"]) -> tuple[Tensor, Tensor]:
            batch = draw(keys)
            return cross_entropy_gradient(self.model, batch.tokens, batch.labels, self.encoding.answer)

        return CapturedUpdates(work, roots, optimizer, course, step)

    def parts(self, batch: Batch, step: int = 0) -> list[list[Part]]:
        """The loss of GPTs in slices of each member's samples, where it is a mean over them; or nothing.

        A written model's slice would not fill a core: its fleets train whole.
        """
        if not (self.method.is_mean_over_samples and _fills_a_core(self.model)):
            return []
        cuts = slices(*batch.tokens.shape[1:])
        return [
            [partial(self._share, member, rows, batch, step) for rows in cuts]
            for member in range(len(self.members))
        ]

    def _share(
        self, member: int, rows: slice, batch: Batch, step: int, model: Transformer
    ) -> Float[Tensor, ""]:
        """What some of one member's samples add to its loss."""
        one = slice(member, member + 1)
        own = Batch(batch.tokens[one, rows], batch.labels[one, rows], batch.results[one, rows])
        seen = Step(model, self._starts[member], own, step, self.encoding.answer, model, _no_old)
        return self.method.loss(seen)[0] * (own.tokens.shape[1] / batch.tokens.shape[1])

    @cached_property
    def _starts(self) -> list[Transformer]:
        return self._start.views()

    def evaluate(self, cores: int = 1) -> Scores:
        """Accuracy and loss by member, kind of text and operand."""
        return evaluate(self.model, self._sets, self.encoding.answer, cores)

    def reached(self, step: int, accuracy: Tensor) -> None:
        """Tell of an evaluation."""
        self.told(step, accuracy)


def evaluation_batch(
    task: Task,
    encoding: Encoding,
    kind: Kind,
    samples: int,
    device: torch.device,
    asked: Operand = "pt",
    seeds: Sequence[int] = (EVALUATION_SEED,),
) -> Batch:
    """The evaluation set of one kind, one member for each seed; ``asked`` where the input names it."""
    task = getattr(task, "evaluated", task)  # of a table of texts, those that training never draws
    roots = [random.stream_key(task.name, seed, f"evaluate/{kind}") for seed in seeds]
    keys = torch.tensor([random.step_key(root, 0) for root in roots], device=device)
    mixtures = Mixtures([Mixture((Component(1.0, kind, asked, asked),))] * len(seeds), device)
    return encoding.encode(task.draw(keys, mixtures, samples))


def evaluation_sets(
    task: Task,
    encoding: Encoding,
    samples: int,
    device: torch.device,
    seeds: Sequence[int] = (EVALUATION_SEED,),
) -> dict[Kind, tuple[Batch, ...]]:
    """Per kind the batch that asks for each operand, or one batch where the input does not say.

    Args:
        task: what is asked.
        encoding: how the models read it.
        samples: texts of each kind.
        device: where they are made.
        seeds: one for all members, or one for each.
    """
    asked: tuple[Operand, ...] = OPERANDS if task.names_operand else ("pt",)

    def batch(kind: Kind, operand: Operand) -> Batch:
        return evaluation_batch(task, encoding, kind, samples, device, operand, seeds)

    return {kind: tuple(batch(kind, operand) for operand in asked) for kind in EVALUATED}


def _fills_a_core(model: Transformer) -> bool:
    """Whether one member's products fill a core of a CPU: those of GPTs do, of written models not."""
    return model.config.normalization == "pre" and model.token_embedding.device.type == "cpu"


def _no_old(number: int) -> Batch:
    raise TypeError("a method whose loss is a mean over the samples of step.batch cannot use step.old()")


def evaluate(model: Transformer, sets: dict[Kind, tuple[Batch, ...]], answer: int, cores: int = 1) -> Scores:
    """Accuracy and loss of every member: [member, kind, operand] each."""
    return evaluate_sets(model, list(sets.values()), answer, cores)


def evaluate_sets(model: Transformer, sets: list[tuple[Batch, ...]], answer: int, cores: int = 1) -> Scores:
    """The same for any list of sets: [member, set, operand] each.

    On a CPU each GPT is scored by itself, so that its numbers are the same in any fleet.
    """
    alone = model.views() if _fills_a_core(model) else [model]
    works = [
        partial(
            _score, own, tuple(_own(batch, i) if own is not model else batch for batch in batches), answer
        )
        for i, own in enumerate(alone)
        for batches in sets
    ]
    found = in_threads(works, cores)
    fleets = [found[i : i + len(sets)] for i in range(0, len(found), len(sets))]
    right, loss = (torch.cat([torch.stack([f[i] for f in own], 1) for own in fleets]) for i in (0, 1))
    return right, loss


def _own(batch: Batch, member: int) -> Batch:
    """A member's part of a set that all share, or of one that has a part for each."""
    if len(batch.tokens) == 1:
        return batch
    one = slice(member, member + 1)
    return Batch(batch.tokens[one], batch.labels[one], batch.results[one])


@torch.no_grad()
def _score(model: Transformer, batches: tuple[Batch, ...], answer: int) -> tuple[Tensor, Tensor]:
    """[member, operand] each; with two batches, every operand is scored where it is asked for."""
    scored = []
    for batch in batches:
        chunks = []
        for tokens, results in _chunks(batch, model):
            logits = model(tokens.expand(model.members, -1, -1), answer=answer).logits
            chunks.append((accuracy(logits, results), results.shape[1]))
        total = sum(size for _, size in chunks)
        scored.append([torch.stack([pair[i] * size for pair, size in chunks]).sum(0) / total for i in (0, 1)])
    if len(batches) == 1:
        return scored[0][0], scored[0][1]
    pairs = [torch.stack([scored[operand][i][:, operand] for operand in (0, 1)], -1) for i in (0, 1)]
    return pairs[0], pairs[1]


def _chunks(batch: Batch, model: Transformer, rows: int = 65536) -> Iterator[tuple[Tensor, Tensor]]:
    """The set in pieces of about ``rows`` token rows over all members, to bound memory.

    On a CPU all fleets have the same pieces, so that a member's sums are in the same order in any.
    """
    members = SMALL_FLEET if batch.tokens.device.type == "cpu" else max(model.members, SMALL_FLEET)
    size = max(1, rows // (members * batch.tokens.shape[-1]))
    for start in range(0, batch.tokens.shape[1], size):
        part = slice(start, start + size)
        yield batch.tokens[:, part], batch.results[:, part].expand(model.members, -1, -1)
