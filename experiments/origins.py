"""Where a chain of cells starts: a written capability with noise, a pretrained model, or fresh weights.

Experiments and the run know origins only; whether a capability was written or learned is settled here.
"""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from veneer.analysis.constructed import TRUTHS, construct, from_scratch
from veneer.analysis.texts import draw
from veneer.compiled.capability import CompiledCapability
from veneer.compiled.exactness import add_noise
from veneer.compiled.pairs import classes_of
from veneer.experiments.model_names import SEED, model_name
from veneer.experiments.tuned import Capability, read_capability
from veneer.finetune.cell import Origin
from veneer.finetune.initialize import initialize
from veneer.models.transformer import Transformer
from veneer.pcfg.capability import CHECKPOINTS, LearnedCapability
from veneer.pcfg.operand_task import OperandTask
from veneer.tasks import random
from veneer.tasks.encoding import Encoding, Task, Value
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import pretraining
from veneer.tasks.pair import PairTask

CAPABILITY, SCRATCH = "capability", "scratch"
CONSTRUCTIONS = tuple(f"{truth}: {name}" for name, truth in TRUTHS.items())
"""Starts of models whose truth is known by construction."""
CONSTRUCTION_TEXTS = 512
LEAST_NOISE = 0.5
"""Least noise of a seed that draws its own, as a share of what is harmless."""


class Source(Protocol):
    """A capability as an experiment starts from it."""

    @property
    def name(self) -> str: ...  # in reports

    @property
    def key(self) -> str: ...  # hash of the weights, so that cells of other weights are other cells

    @property
    def noise(self) -> float: ...  # standard deviation of what is added to every weight, the largest

    def noise_of(self, seed: int) -> float: ...  # the same of one seed

    @property
    def only(self) -> int | None: ...  # the one seed that starts from it, if not all do

    @property
    def model(self) -> Transformer: ...  # without noise, a fleet of one

    @property
    def vocabulary(self) -> Sequence[Value]: ...  # token by id

    @property
    def residual_labels(self) -> tuple[str, ...]: ...  # of a written one's residual stream

    def encoding(self, task: Task) -> Encoding: ...  # how the model reads a task

    def save(self, folder: Path, model: Transformer) -> None: ...  # as it starts, as FOLDER/model.*

    def describe(self) -> dict[str, Any]: ...  # what a reader should know, as plain data


def start(source: Source, origin: Origin, task: Task) -> Transformer:
    """The weights that an origin stands for, a fleet of one.

    Args:
        source: the origin's capability.
        origin: what is asked for.
        task: what its cells are asked: a constructed model's alteration is fitted to natural texts.
    """
    if origin.start == SCRATCH:
        # GPTs begin as they did before pretraining; models without norms need larger weights.
        compiled = source.model.config.normalization == "none"
        return (
            from_scratch(source.model, [origin.seed])
            if compiled
            else initialize(source.model.config, [origin.seed])
        )
    own = add_noise(source.model, origin.noise, [origin.seed]) if origin.noise else source.model.member(0)
    if origin.start == CAPABILITY:
        return own
    return _constructed(source, task, own, origin)


def _constructed(source: Source, task: Task, model: Transformer, origin: Origin) -> Transformer:
    encoding, (_, name) = source.encoding(task), origin.start.split(": ")
    batch = draw(
        task, encoding, pretraining(), CONSTRUCTION_TEXTS, torch.device("cpu"), "construct", origin.seed
    )
    return construct(name, model, origin.seed, batch, encoding.answer)


def origin(source: Source, seed: int, begins: str = CAPABILITY) -> Origin:
    """The origin of a seed's cells."""
    return Origin(source.key, source.name, source.noise_of(seed) if begins != SCRATCH else 0.0, seed, begins)


class Weights(ABC):
    """What written and learned capabilities have in common: a model, known by its weights."""

    @property
    @abstractmethod
    def model(self) -> Transformer:
        """Without noise."""

    @property
    def key(self) -> str:
        """Hash of the weights."""
        return self._key

    @cached_property
    def _key(self) -> str:
        return fingerprint(self.model)


@dataclass(frozen=True)
class Written(Weights):
    """A compiled program; every seed adds its own noise.

    Attributes:
        capability: the capability, without noise.
        noise: standard deviation of the noise.
        varied: whether each seed draws its own, between ``LEAST_NOISE`` of it and all of it.
    """

    capability: CompiledCapability
    noise: float
    varied: bool = False
    name: str = "compiled"
    only: int | None = None

    def noise_of(self, seed: int) -> float:
        """Standard deviation of a seed's noise, to three digits."""
        if not self.varied:
            return self.noise
        key = random.stream_key("compiled weights", seed, "noise scale")
        share = LEAST_NOISE + (1 - LEAST_NOISE) * random.uniform_number(key)
        return float(f"{share * self.noise:.3g}")

    @property
    def model(self) -> Transformer:
        """Without noise."""
        return self.capability.model

    @property
    def vocabulary(self) -> Sequence[Value]:
        """Token by id."""
        return self.capability.vocabulary

    @property
    def residual_labels(self) -> tuple[str, ...]:
        """Tracr's names of the directions."""
        return self.capability.residual_labels

    def encoding(self, task: Task) -> Encoding:
        """Tokens and answers matched by value.

        Raises:
            InputError: a token or an answer that the program does not know.
        """
        own = self.capability
        assert own.classes is not None and own.answer_position is not None
        if isinstance(task, PairTask):
            ids = {(type(token), token): place for place, token in enumerate(own.vocabulary)}
            tokens = [ids[type(t), t] for t in (*task.letters, own.pad)]
            classes = classes_of(task, own.classes)
            return Encoding(tuple(tokens), classes, (ids[str, own.bos],), own.answer_position)
        return Encoding.between(task, own.vocabulary, own.classes, own.bos, own.pad, own.answer_position)

    def save(self, folder: Path, model: Transformer) -> None:
        """As ``CompiledCapability.save`` writes it."""
        replace(self.capability, model=model).save(folder)

    def describe(self) -> dict[str, Any]:
        """Parameters, exactness, noise and what they cost in accuracy."""
        calibration = self.capability.calibration
        assert calibration is not None
        return {
            "kind": "written",
            "parameters": self.model.parameter_count,
            "exactness": calibration.mlp_exactness,
            "noise": self.noise,
            "accuracy_before": calibration.accuracy_before,
            "accuracy_after": calibration.accuracy_after,
        }


@dataclass(frozen=True)
class Learned(Weights):
    """A pretrained model.

    Attributes:
        capability: the model with the layout of its samples.
        name: of the model in reports; models that differ in pretraining's seed alone have one name.
        only: the one seed that starts from it; None: all do, from the same weights.
    """

    capability: LearnedCapability
    name: str
    only: int | None = None
    noise: float = 0.0

    def noise_of(self, seed: int) -> float:
        """None is added."""
        return 0.0

    @property
    def model(self) -> Transformer:
        """The model."""
        return self.capability.model

    @property
    def vocabulary(self) -> Sequence[Value]:
        """Token by id."""
        return self.capability.layout.vocabulary

    @property
    def residual_labels(self) -> tuple[str, ...]:
        """None: what directions mean was learned."""
        return ()

    def encoding(self, task: Task) -> Encoding:
        """The task's own: it is asked in the model's vocabulary.

        Raises:
            InputError: a task of another vocabulary.
        """
        if not isinstance(task, OperandTask) or task.layout != self.capability.layout:
            valid = f"a task in the layout that {self.name!r} was pretrained with"
            raise InputError("pretrained", self.name, valid, "its vocabulary or layout differs")
        return task.encoding

    def save(self, folder: Path, model: Transformer) -> None:
        """As ``LearnedCapability.save`` writes it."""
        replace(self.capability, model=model).save(folder / "model")

    def describe(self) -> dict[str, Any]:
        """Parameters, prior, pretraining and its accuracies."""
        own = self.capability
        return {
            "kind": "learned",
            "parameters": self.model.parameter_count,
            "operand_prior": list(own.operand_prior),
            "iterations": own.iterations,
            "seed": own.seed,
            "accuracy": own.accuracy,
            "command": own.command,
        }


def pretrainings(word: str, seeds: range) -> list[Learned]:
    """The pretrained models that a word names: one, or where it has ``{seed}`` each seed's own.

    Raises:
        InputError: one of them is not there.
    """
    if SEED not in word:
        return [pretrained(word)]
    each = [pretrained(word.replace(SEED, str(seed))) for seed in seeds]
    first = each[0].capability
    for seed, own in zip(seeds, (found.capability for found in each), strict=True):
        names = ("operand_prior", "iterations", "layout")
        differing = [name for name in names if getattr(own, name) != getattr(first, name)]
        if own.model.config != first.model.config:
            differing.append("shape")
        if differing:
            problem = f"seed {seed} has another {' and '.join(differing)} than seed {seeds[0]}"
            raise InputError("pretrained", word, "models that differ in seed alone", problem)
    return [replace(found, name=model_name(word), only=seed) for seed, found in zip(seeds, each, strict=True)]


def _checkpoint(word: str) -> tuple[Path, str] | None:
    """Where the model of a word is, without suffix, and its name; None if there is none."""
    ready = CHECKPOINTS / f"quick-{word}"
    if ready.with_name(f"{ready.name}.json").exists():
        return ready, word
    path = Path(word).with_suffix("") if word.endswith((".safetensors", ".json")) else Path(word)
    return (path, path.name) if path.with_name(f"{path.name}.json").exists() else None


def is_there(word: str) -> bool:
    """Whether a word names a ready model or a checkpoint."""
    return _checkpoint(word) is not None


def pretrained(word: str) -> Learned:
    """A pretrained model by the name of a ready one (L, M, H, ...) or by its checkpoint's path.

    Raises:
        InputError: neither.
    """
    found = _checkpoint(word)
    if found is None:
        ready = (path.stem.removeprefix("quick-") for path in CHECKPOINTS.glob("quick-*.json"))
        known = sorted({re.sub(r"-\d$", f"-{SEED}", name) for name in ready})
        valid = f"{', '.join(known)}, or a checkpoint that veneer pretrain pcfg made"
        raise InputError("pretrained", word, valid, "there is no such file")
    return Learned(LearnedCapability.load(found[0]), found[1])


def capability_at(path: str | os.PathLike[str]) -> Capability:
    """A capability that ``veneer compile`` or ``veneer pretrain`` made, or a ready one by its name.

    Args:
        path: a folder with model.json, a checkpoint's path, or the name of a ready one.

    Raises:
        InputError: there is none, or it is damaged.
    """
    whole = (Path(path) / "model.json").is_file()
    return read_capability(path) if whole else pretrained(os.fspath(path)).capability


def fingerprint(model: Transformer) -> str:
    """Hash of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
