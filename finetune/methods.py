"""The methods that come with the project, each from its paper, and how one is named in a few letters.

``load_method`` reads "lora:8", "difference:0.5" or "mine.py:Mine".
"""

import json
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from veneer.finetune.method import FullFineTuning, Method, Step
from veneer.models.files import at_home
from veneer.models.transformer import Transformer
from veneer.tasks import random, user_code
from veneer.tasks.errors import InputError

ADAPTED = ("query", "key", "value", "output", "mlp_in", "mlp_out")
"""The matrices of a block that LoRA changes."""


@dataclass(frozen=True)
class LastBlock(Method):
    """Only the last block moves: its matrices, biases and norms.

    Embeddings, earlier blocks, the final norm and the unembedding stay, so that what changes is
    what the last block makes of an unchanged residual stream, read out as before.
    """

    def prepare(self, model: Transformer, seeds: list[int]) -> None:
        model.requires_grad_(False)
        model.blocks[-1].requires_grad_(True)


class _LowRankChange(nn.Module):
    """W + scale * down @ up, for every member."""

    def __init__(
        self,
        down: Float[Tensor, "member inputs rank"],
        up: Float[Tensor, "member rank outputs"],
        scale: float,
    ) -> None:
        super().__init__()
        self.down, self.up, self.scale = nn.Parameter(down), nn.Parameter(up), scale

    def forward(
        self, weight: Float[Tensor, "member inputs outputs"]
    ) -> Float[Tensor, "member inputs outputs"]:
        return torch.baddbmm(weight, self.down, self.up, alpha=self.scale)


@dataclass(frozen=True)
class LowRank(Method):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): each matrix of a block gets a change of low rank.

    W + (alpha / rank) A B with A drawn from N(0, 1 / inputs) by the member's seed and B zero, so
    that the first update starts from the model itself. A and B move and nothing else does. All six
    matrices of every block are adapted (the paper adapts those of attention). AdamW's weight decay
    applies to A and B.

    Attributes:
        rank: largest rank of a change.
        alpha: strength of the change; None takes ``rank``, so that the factor is 1.

    Raises:
        InputError: a rank below 1 or (in ``prepare``) above a matrix's smaller side.
    """

    rank: int = 8
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError("rank", self.rank, "1 or more")
        if self.alpha is not None:
            _check_number("alpha", self.alpha)

    def prepare(self, model: Transformer, seeds: list[int]) -> None:
        model.requires_grad_(False)
        for i, block in enumerate(model.blocks):
            for name in ADAPTED:
                self._adapt(block.get_submodule(name), f"{i}.{name}", seeds)

    def _adapt(self, layer: nn.Module, name: str, seeds: list[int]) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        members, inputs, outputs = weight.shape
        if self.rank > min(inputs, outputs):
            raise InputError(
                "rank", self.rank, f"1 to {min(inputs, outputs)}", f"block matrix {name} is smaller"
            )
        keys = torch.tensor([random.stream_key(f"low rank/{name}", seed, "weights") for seed in seeds])
        down = random.normal(keys, inputs, self.rank).to(weight) / math.sqrt(inputs)
        up = weight.new_zeros(members, self.rank, outputs)
        scale = 1.0 if self.alpha is None else self.alpha / self.rank
        parametrize.register_parametrization(layer, "weight", _LowRankChange(down, up, scale))


@dataclass(frozen=True)
class TowardsStart(Method):
    """L2-SP (Li et al. 2018, arXiv 1802.01483): fine-tuning with a spring to the starting weights.

    Adds strength / 2 times the squared distance from where the stage started, over all weights that
    move. With SGD the spring itself is unstable from learning rate * strength = 2 (1 + momentum) on.

    Attributes:
        strength: the paper's alpha.

    Raises:
        InputError: a strength below 0, or not finite.
    """

    strength: float = 0.01

    def __post_init__(self) -> None:
        _check_number("strength", self.strength, 0.0)

    def loss(self, step: Step) -> Float[Tensor, "member"]:
        start = dict(step.start.named_parameters())
        distance = sum(
            (now - start[name]).square().flatten(1).sum(1)
            for name, now in step.model.named_parameters()
            if now.requires_grad
        )
        return step.cross_entropy(step.batch) + 0.5 * self.strength * distance


def _bounded(loss: Float[Tensor, "member"], ceiling: float | None, classes: int) -> Float[Tensor, "member"]:
    """The loss up to ``ceiling`` times that of a uniform guess, with no gradient above it."""
    return loss if ceiling is None else loss.clamp_max(ceiling * math.log(classes))


@dataclass(frozen=True)
class GradientAscent(Method):
    """Unlearning by ascent (Jang et al. 2023, arXiv 2210.01504): up the loss on O_PT.

    The stage's mixture is not used: every update is on natural texts that ask for O_PT. The loss of
    a classifier has no upper bound, so that ascent goes on until weights are no longer finite, which
    is a result ("diverged at step N"), unless a ceiling holds it: a batch whose mean loss is above
    it gives no gradient (momentum and weight decay still act).

    Attributes:
        ceiling: in units of the loss of a uniform guess over the model's output classes; None
            ascends without end.

    Raises:
        InputError: a ceiling that is not above 0.
    """

    teaches: ClassVar[bool] = False
    ceiling: float | None = 2.0

    def __post_init__(self) -> None:
        _check_ceiling(self.ceiling)

    def loss(self, step: Step) -> Float[Tensor, "member"]:
        return -_bounded(step.cross_entropy(step.old()), self.ceiling, step.model.config.classes)


@dataclass(frozen=True)
class GradientDifference(Method):
    """Down the loss on the stage's mixture and up the loss on O_PT (Liu et al. 2022, arXiv 2203.12817).

    Attributes:
        weight: of the ascent.
        ceiling: of the ascent, as in ``GradientAscent``.

    Raises:
        InputError: a weight below 0 or not finite, or a ceiling that is not above 0.
    """

    weight: float = 1.0
    ceiling: float | None = 2.0

    def __post_init__(self) -> None:
        _check_number("weight", self.weight, 0.0)
        _check_ceiling(self.ceiling)

    def loss(self, step: Step) -> Float[Tensor, "member"]:
        old = _bounded(step.cross_entropy(step.old()), self.ceiling, step.model.config.classes)
        return step.cross_entropy(step.batch) - self.weight * old


def _check_number(field: str, value: float, least: float | None = None) -> None:
    if not math.isfinite(value) or (least is not None and value < least):
        raise InputError(field, value, "a finite number" + ("" if least is None else f", {least:g} or more"))


def _check_ceiling(ceiling: float | None) -> None:
    if ceiling is not None and not (math.isfinite(ceiling) and ceiling > 0):
        raise InputError("ceiling", ceiling, "a finite number above 0, or none")


BUILT_IN: dict[str, tuple[type[Method], tuple[Callable[[str], float], ...]]] = {
    "full": (FullFineTuning, ()),
    "last-block": (LastBlock, ()),
    "lora": (LowRank, (int, float)),
    "l2-sp": (TowardsStart, (float,)),
    "ascent": (GradientAscent, (float,)),
    "difference": (GradientDifference, (float, float)),
}
"""Short names, and the types of the numbers that may follow them, in the order of the fields."""

WRITTEN = "FILE.py:NAME, a subclass or an instance of veneer.finetune.method.Method"
VALID = "full, last-block, lora:RANK[:ALPHA], l2-sp:STRENGTH, ascent[:CEILING], " + (
    "difference:WEIGHT[:CEILING], or FILE.py:NAME"
)


def load_method(spec: str) -> Method:
    """The method meant by a name with numbers ("lora:8"), or written in a file ("mine.py:Mine").

    NAME is a subclass of ``Method`` whose fields all have defaults, or an instance. The file is run.

    Raises:
        InputError: no such name or file, numbers that do not fit, a file that fails while it runs, one in
            which NAME is not a method, or a method with something in it that no field names.
    """
    name, *numbers = spec.split(":")
    if name in BUILT_IN:
        return _built_in(spec, name, numbers)
    if not is_file_spec(spec):
        raise InputError("method", spec, VALID)
    path, name = source_file(spec), spec.rpartition(":")[2]
    found = getattr(user_code.load(path, "method", spec, WRITTEN), name, None)
    if isinstance(found, type) and issubclass(found, Method):
        needed = [f.name for f in fields(found) if f.default is MISSING and f.default_factory is MISSING]
        if needed:
            problem = f"{name} needs {', '.join(needed)}"
            raise InputError("method", spec, "a class whose fields have defaults, or an instance", problem)
        with user_code.running(path, "method", spec, WRITTEN):
            found = found()
    if not isinstance(found, Method):
        raise InputError("method", spec, f"a subclass or an instance of Method in {path.name}")
    _check_identity(found, spec)
    return found


def is_file_spec(spec: str) -> bool:
    """Whether a method is named as FILE.py:NAME."""
    path, colon, _ = spec.rpartition(":")
    return bool(colon) and path.endswith(".py")


def source_file(spec: str) -> Path:
    """The file of FILE.py:NAME."""
    return at_home(spec.rpartition(":")[0])


def _check_identity(method: Method, spec: str) -> None:
    """Refuse what two methods could differ in without being told apart."""
    valid = "a frozen dataclass whose fields are numbers, texts, or tuples of them"
    if hidden := set(vars(method)) - {field.name for field in fields(method)}:
        problem = f"it keeps {', '.join(sorted(hidden))}, which is no field of it"
        raise InputError("method", spec, valid, problem)
    try:
        hash(method)
        json.dumps(method.describe(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError("method", spec, valid, str(error)) from error


def _built_in(spec: str, name: str, numbers: list[str]) -> Method:
    kind, types = BUILT_IN[name]
    if len(numbers) > len(types):
        raise InputError("method", spec, VALID, f"{name} takes {len(types) or 'no'} numbers")
    try:
        values = [read(text) for read, text in zip(types, numbers, strict=False)]
    except ValueError as error:
        raise InputError("method", spec, VALID, str(error)) from error
    return kind(*values)
