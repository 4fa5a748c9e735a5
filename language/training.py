"""Training of text models on questions: AdamW, our recipe, all weights or LoRA, loss on the answers alone.

One model at a time, as real ones fill a device by themselves (fleets are for the one Transformer). Data, its
order and LoRA's first weights are functions of the seed and the step, so training that was killed goes on
from its last state and ends with the same bits on the same kind of machine. LoRA is peft's (Hu et al. 2021).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from veneer.finetune.checkpoint import load_state, save_state
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import check_device
from veneer.language.encoding import Encoded, encode_questions
from veneer.language.questions import Question
from veneer.models.huggingface import HuggingFaceModel
from veneer.tasks import random
from veneer.tasks.errors import InputError

Scores = dict[str, float]


@dataclass(frozen=True)
class Training:
    """How a text model is trained.

    Attributes:
        recipe: optimizer (AdamW), rate, schedule, updates, batch, precision.
        rank: of LoRA's changes in matrices of the blocks; 0 moves all weights.
        embeddings: whether the token embedding (and what is tied to it) moves too; never with LoRA. Answers
            whose tokens a model was never taught cannot be learned without it.
        accumulate: into how many parts a batch is split, one after another, to save memory.
        ascent: whether to go up the loss instead of down.
        ceiling: of ascent: batches whose loss a token is above this many nats give no gradient.
        within: the matrices that LoRA goes into, by the ends of their names; none named means all.
    """

    recipe: Recipe
    rank: int = 0
    embeddings: bool = True
    accumulate: int = 1
    ascent: bool = False
    ceiling: float = 20.0
    within: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.recipe.optimizer != "adamw":
            raise InputError("optimizer", self.recipe.optimizer, "adamw, for text models")
        if self.rank < 0:
            raise InputError("rank", self.rank, "0 (all weights) or more")
        if not 1 <= self.accumulate <= self.recipe.batch:
            raise InputError("accumulate", self.accumulate, f"1 to the batch of {self.recipe.batch}")


@dataclass(frozen=True)
class Curve:
    """What was measured while a model trained.

    Attributes:
        steps: updates after which it was measured; those after a divergence are missing.
        scores: at each, the score of every set by name.
        losses: mean loss a token over the updates since the measurement before; NaN at the first.
        diverged_at: the update whose loss or gradient was not finite; None if none was.
    """

    steps: tuple[int, ...]
    scores: tuple[Scores, ...]
    losses: tuple[float, ...]
    diverged_at: int | None


def train(
    model: HuggingFaceModel,
    tokenizer: Any,
    questions: Sequence[Question],
    training: Training,
    seed: int,
    steps: Sequence[int],
    measure: Callable[[HuggingFaceModel], Scores],
    state: Path | None = None,
    state_seconds: float = 30.0,
    progress: Callable[[int], None] = lambda step: None,
    enough: Callable[[Scores], bool] = lambda scores: False,
) -> Curve:
    """Train a model in place.

    Args:
        model: trained where it is; with LoRA it keeps its adapters (see ``merge``).
        tokenizer: the model's.
        questions: what is taught.
        training: how.
        seed: chooses the order of the questions and LoRA's first weights.
        steps: updates after which to measure, ascending, 0 for the start.
        measure: gives the scores of a model, by the name of the set.
        state: file that holds an unfinished training; one that is there is gone on with, and it is removed
            at the end.
        state_seconds: least time between two states.
        progress: called with the updates done.
        enough: whether training ends after a measurement with these scores.

    Raises:
        InputError: bfloat16 without CUDA, a rank that is too large, or a damaged state.
    """
    recipe = training.recipe
    device = next(p for _, p in model.named_parameters()).device
    check_device(device.type, recipe.precision, recipe.compile)
    trained = _prepare(model, training, seed)
    optimizer = _optimizer(trained, recipe)
    history = _History()
    begin = history.restore(state, trained, optimizer) if state is not None and state.exists() else 0
    saved = time.monotonic()
    for step in range(begin, recipe.iterations + 1):
        if step in steps and not history.measured(step):
            model.module.eval()
            history.add(step, measure(model))
            if enough(history.rows[-1][2]):
                break
        if step == recipe.iterations:
            break
        if state is not None and step > begin and time.monotonic() - saved >= state_seconds:
            history.save(state, step, trained, optimizer)
            saved = time.monotonic()
        chosen = batch_of(questions, recipe.batch, seed, step)
        loss = _update(model, tokenizer, chosen, training, optimizer, step)
        if loss is None:
            history.diverged_at = step
            break
        history.loss_sum, history.loss_count = history.loss_sum + loss, history.loss_count + 1
        progress(step + 1)
    model.module.eval()
    if state is not None:
        state.unlink(missing_ok=True)
    return history.curve()


def batch_of(questions: Sequence[Question], size: int, seed: int, step: int) -> list[Question]:
    """The questions of one update: passes over all of them, each in an order of its own."""
    chosen, count = [], len(questions)
    for place in range(step * size, (step + 1) * size):
        turn, rank = divmod(place, count)
        if not chosen or rank == 0:
            key = torch.tensor(random.step_key(random.stream_key("questions", seed, "train"), turn))
            order = random.shuffled_order(key, 1, count)[0].tolist()
        chosen.append(questions[order[rank]])
    return chosen


def merge(model: HuggingFaceModel) -> HuggingFaceModel:
    """The model with LoRA's changes added to its weights, as an ordinary one; any other as it is."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(model.module.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.module.get_submodule(parent), own, layer.get_base_layer())
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        model.module.__dict__.pop(attribute, None)
    model.module.requires_grad_(True)
    return model


def adapter(model: HuggingFaceModel) -> dict[str, Tensor]:
    """LoRA's weights in a model that has them, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if ".lora_" in name}


@torch.no_grad()
def put(model: HuggingFaceModel, state: Mapping[str, Tensor]) -> None:
    """Put weights in the place of a model's, by name; those that are not named stay.

    Raises:
        InputError: a name that the model does not have.
    """
    own = dict(model.named_parameters())
    if strange := sorted(state.keys() - own.keys()):
        raise InputError("weights", strange[0], f"a name of this model's weights, such as {next(iter(own))}")
    for name, value in state.items():
        own[name].copy_(value)


def matrices(model: HuggingFaceModel) -> dict[str, nn.Module]:
    """The layers in a model's blocks that hold a matrix each, by name; no embedding is one."""
    from transformers.pytorch_utils import Conv1D

    apart = {model.module.get_input_embeddings(), model.module.get_output_embeddings()}
    named = model.module.named_modules()
    return {name: own for name, own in named if isinstance(own, (nn.Linear, Conv1D)) and own not in apart}


def _prepare(model: HuggingFaceModel, training: Training, seed: int) -> dict[str, nn.Parameter]:
    """Say what moves, and give it by name."""
    module = model.module
    if training.rank:
        adapt(model, training.rank, seed, training.within)
    else:
        module.requires_grad_(True)
        if not training.embeddings:
            module.get_input_embeddings().weight.requires_grad_(False)
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def adapt(model: HuggingFaceModel, rank: int, seed: int, within: tuple[str, ...] = ()) -> None:
    """Put LoRA into matrices of the blocks, its first weights drawn by the seed; only it then moves.

    Args:
        model: changed in place.
        rank: of the change of each matrix.
        seed: of the first weights.
        within: the matrices, by the ends of their names; none named means all.

    Raises:
        InputError: a rank above the smaller side of a matrix, or no matrix of these names.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    known = matrices(model)
    found = {name: own for name, own in known.items() if not within or name.endswith(within)}
    if not found:
        ends = sorted({name.rpartition(".")[2] for name in known})
        raise InputError("matrices", ", ".join(within), f"some of {', '.join(ends)}, as this model has")
    smallest = min(min(layer.weight.shape) for layer in found.values())  # pyright: ignore[reportArgumentType]
    if rank > smallest:
        raise InputError("rank", rank, f"at most {smallest}, the smaller side of the smallest matrix")
    rows = any(isinstance(layer, Conv1D) for layer in found.values())
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(found), fan_in_fan_out=rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model.module)
    for name, parameter in model.module.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def _optimizer(trained: dict[str, nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone, as the recipe says."""
    kinds = ([p for p in trained.values() if p.ndim >= 2], [p for p in trained.values() if p.ndim < 2])
    groups = [
        {"params": kind, "weight_decay": decay}
        for kind, decay in zip(kinds, (recipe.weight_decay, 0.0), strict=True)
        if kind
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon)


def _update(
    model: HuggingFaceModel,
    tokenizer: Any,
    chosen: Sequence[Question],
    training: Training,
    optimizer: torch.optim.AdamW,
    step: int,
) -> float | None:
    """One update; its loss a token, or None where loss or gradient was not finite (then nothing moved)."""
    recipe = training.recipe
    model.module.train()
    optimizer.zero_grad(set_to_none=True)
    parts = [chosen[i :: training.accumulate] for i in range(training.accumulate)]
    batches = [encode_questions(tokenizer, part) for part in parts]
    tokens = sum(len(batch.targets) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = _loss(model, batch, recipe) / tokens
        (-loss if training.ascent else loss).backward()
        total += float(loss.detach())
    moved = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(moved, math.inf if recipe.clip is None else recipe.clip)
    if not (math.isfinite(total) and math.isfinite(float(norm))):
        return None
    if training.ascent and total > training.ceiling:
        return total
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * recipe.rate_factor(step)
    optimizer.step()
    return total


def _loss(model: HuggingFaceModel, batch: Encoded, recipe: Recipe) -> Tensor:
    """Cross-entropy of the answers' tokens, summed."""
    device = next(p for _, p in model.named_parameters()).device
    batch = batch.to(device)
    fast = recipe.precision == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16) if fast else nullcontext():
        logits = model.logits_at(batch.tokens, batch.items, batch.positions)
    return F.cross_entropy(logits.float(), batch.targets, reduction="sum")


class _History:
    """What an unfinished training has measured, and how it is written down."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, Scores]] = []
        self.loss_sum, self.loss_count = 0.0, 0
        self.diverged_at: int | None = None

    def measured(self, step: int) -> bool:
        return any(row[0] == step for row in self.rows)

    def add(self, step: int, scores: Scores) -> None:
        loss = self.loss_sum / self.loss_count if self.loss_count else math.nan
        self.rows.append((step, loss, scores))
        self.loss_sum, self.loss_count = 0.0, 0

    def curve(self) -> Curve:
        steps, losses, scores = zip(*self.rows, strict=True) if self.rows else ((), (), ())
        return Curve(tuple(steps), tuple(scores), tuple(losses), self.diverged_at)

    def save(
        self, path: Path, step: int, trained: dict[str, nn.Parameter], optimizer: torch.optim.AdamW
    ) -> None:
        """Parameters, moments and measurements, in one file that is replaced whole."""
        state: dict[str, Tensor] = {"step": torch.tensor(step)}
        for name, parameter in trained.items():
            state[f"value/{name}"] = parameter.detach()
            for kind, value in optimizer.state[parameter].items():
                state[f"{kind}/{name}"] = value
        for at, loss, scores in self.rows:
            state[f"row/{at}"] = torch.tensor([loss, *scores.values()], dtype=torch.float64)
            for place, name in enumerate(scores):
                state[f"name/{place}/{name}"] = torch.zeros(())
        state["loss"] = torch.tensor([self.loss_sum, self.loss_count], dtype=torch.float64)
        save_state(path, {key: value.clone() for key, value in state.items()})

    def restore(self, path: Path, trained: dict[str, nn.Parameter], optimizer: torch.optim.AdamW) -> int:
        """Put back what ``save`` wrote; the updates done.

        Raises:
            InputError: the state is damaged, or another training's.
        """
        state = load_state(path)
        if {key.removeprefix("value/") for key in state if key.startswith("value/")} != trained.keys():
            raise InputError("state", str(path), "the state of this training", "it holds other parameters")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(state[f"value/{name}"])
                kinds = [key.split("/", 1)[0] for key in state if key.endswith(f"/{name}")]
                optimizer.state[parameter] = {k: state[f"{k}/{name}"] for k in kinds if k != "value"}
        places = sorted(key.split("/", 2)[1:] for key in state if key.startswith("name/"))
        names = [name for _, name in sorted((int(place), name) for place, name in places)]
        for at in sorted(int(key.removeprefix("row/")) for key in state if key.startswith("row/")):
            loss, *values = state[f"row/{at}"].tolist()
            self.rows.append((at, loss, dict(zip(names, values, strict=True))))
        self.loss_sum, self.loss_count = float(state["loss"][0]), int(state["loss"][1])
        return int(state["step"])
