"""The work of ``veneer run layers``: what each trial tunes, and how layers are compared.

All models are compared at the last token of the prompt, after each block, in float32 and CKA in double. The
last layer is taken before the final norm (the paper's is after it).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from veneer.analysis.embedding import COMPONENTS, Way, plane, principal_components, separation
from veneer.analysis.layers import layer_table
from veneer.analysis.similarity import Sums
from veneer.analysis.text_insides import text_states
from veneer.experiments.layers.known import known
from veneer.experiments.layers.settings import QUERIES_AND_VALUES, LayerTrial, Pair
from veneer.experiments.layers.store import LayersRun
from veneer.experiments.trial_work import Progress, work_through
from veneer.finetune.checkpoint import load_state, save_state
from veneer.language.attacks import duplicate
from veneer.language.encoding import token_ids
from veneer.language.instructions.base import ready_base
from veneer.language.instructions.examples import Example
from veneer.language.metrics import guess, metric_of, scores
from veneer.language.training import adapt, adapter, put, train
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import load_model, load_tokenizer

EXACT = metric_of("exact")
PIECE = 64
"""Prompts that go through a model at once."""

States = Float[Tensor, "layer sample width"]


def source_of(run: LayersRun) -> str:
    """Where the base lies."""
    return run.settings.base or ready_base()


class Workshop:
    """What one process needs for its trials: tokenizer, base, tasks."""

    def __init__(self, run: LayersRun, device: torch.device) -> None:
        self.run, self.settings, self.device = run, run.settings, device
        self.lessons = run.lessons

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of all models."""
        return load_tokenizer(source_of(self.run))

    @cached_property
    def base(self) -> HuggingFaceModel:
        """The model that all others were tuned from; nobody changes it."""
        loaded = load_model(source_of(self.run))
        return HuggingFaceModel(loaded.module.to(self.device))

    def model(self, trial: LayerTrial) -> HuggingFaceModel:
        """The model that a trial gave."""
        model = duplicate(self.base)
        if trial.kind == "base":
            return model
        if self.settings.method == "lora":
            adapt(model, self.settings.rank, trial.seed, QUERIES_AND_VALUES)
        put(model, load_state(self.run.weights(trial)))
        model.module.eval()
        return model

    def answers(self, model: HuggingFaceModel, tasks: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """How well a model answers each task."""
        found = {}
        for task in tasks:
            asked = [own.question for own in self.lessons.asked(task, self.settings.questions)]
            right = scores(model, self.tokenizer, asked, EXACT)
            chance = guess(asked, EXACT)
            assert chance is not None
            found[task] = {"right": share(right), "guess": chance, "questions": len(asked)}
        return found

    def perform(self, trial: LayerTrial, progress: Progress) -> dict[str, Any] | None:
        """One trial, to plain data; None while a model that it looks at is not there."""
        if not all(self.run.done(own) for own in self.needed(trial)):
            return None
        if trial.kind == "base":
            return {"answers": self.answers(self.base, self.lessons.tasks), "diverged_at": None, "updates": 0}
        if trial.kind == "compare":
            return self.compare(trial)
        if trial.kind == "map":
            return self.map(trial)
        if trial.kind == "known":
            return known(self.settings.known)
        return self.tune(trial, progress)

    def needed(self, trial: LayerTrial) -> list[LayerTrial]:
        """The models that a trial looks at."""
        if trial.kind == "map":
            return [LayerTrial("multi-task", "", trial.seed)] if trial.task != "base" else []
        return [own for own in self.models(trial).values() if own.kind != "base"]

    def models(self, trial: LayerTrial) -> dict[str, LayerTrial]:
        """Of a comparison, its models by what they are to it."""
        if trial.kind != "compare":
            return {}
        seed, task = trial.seed, trial.task
        found = {
            "base": LayerTrial("base"),
            "multi-task": LayerTrial("multi-task", "", seed),
            "specialist": LayerTrial("specialist", task, seed),
        }
        if self.settings.seeds > 1 or task in self.settings.ceiling:
            other = (seed + 1) % max(2, self.settings.seeds)
            found[f"seed {other}"] = LayerTrial("specialist", task, other)
        return {**found, **{own: LayerTrial("specialist", own, seed) for own in self.lessons.others(task)}}

    def tune(self, trial: LayerTrial, progress: Progress) -> dict[str, Any]:
        """Tune a model, keep it, and ask it."""
        own = self.settings
        if trial.kind == "multi-task":
            taught, tasks = self.lessons.mixture(trial.seed), self.lessons.seen
        else:
            taught, tasks = self.lessons.taught(trial.task, own.examples, trial.seed), (trial.task,)
        watched = [example.question for example in self.lessons.watched(tasks)]
        model = duplicate(self.base)
        curve = train(
            model,
            self.tokenizer,
            [example.question for example in taught],
            own.training(trial.kind),
            trial.seed,
            own.looks(trial.kind),
            lambda seen: {"watched": share(scores(seen, self.tokenizer, watched, EXACT))},
            self.run.state(trial),
            progress=lambda step: progress(trial.told, step),
            enough=lambda found: bool(own.look) and found["watched"] >= own.enough,
        )
        kept = adapter(model) if own.method == "lora" else None
        kept = kept or {name: value.detach().clone() for name, value in model.named_parameters()}
        save_state(self.run.weights(trial), kept)
        asked = self.lessons.tasks if trial.kind == "multi-task" else (trial.task,)
        return {
            "answers": self.answers(model, asked),
            "diverged_at": curve.diverged_at,
            "updates": curve.steps[-1] if curve.diverged_at is None else curve.diverged_at,
        }

    def compare(self, trial: LayerTrial) -> dict[str, Any]:
        """Hold the layers of models against each other on one task's prompts."""
        prompts = self.lessons.asked(trial.task, self.settings.texts)
        states = {name: self.states(self.model(own), prompts) for name, own in self.models(trial).items()}
        rows = []
        for pair, one, other, named in self._pairs(trial, tuple(states)):
            table = layer_table(Sums().add(states[one].unsqueeze(0), states[other].unsqueeze(0)))
            for layer, biased, unbiased in table.select("residual", "cka", "unbiased").iter_rows():
                about = {"pair": pair, "other": named, "layer": layer + 1, "samples": len(prompts)}
                rows.append({**about, "cka": biased, "unbiased": unbiased})
        dimensions = []
        for model in ("base", "multi-task", "specialist"):
            own = states[model].unsqueeze(0)
            table = layer_table(Sums().add(own, own)).select("residual", "dimensions", "effective_rank")
            for layer, count, rank in table.iter_rows():
                about = {"model": model, "layer": layer + 1, "samples": len(prompts)}
                dimensions.append({**about, "dimensions": count, "effective_rank": rank})
        return {"pairs": rows, "dimensions": dimensions}

    def _pairs(
        self, trial: LayerTrial, known_names: tuple[str, ...]
    ) -> Iterator[tuple[Pair, str, str, str | None]]:
        """Kind, both models and what is other about the second."""
        yield "base", "base", "specialist", None
        yield "multi-task", "multi-task", "specialist", None
        yield "base and multi-task", "base", "multi-task", None
        for name in known_names:
            if name.startswith("seed "):
                yield "ceiling", "specialist", name, name
        for name in self.lessons.others(trial.task):
            yield "floor", "specialist", name, name
            yield "other task", "multi-task", name, name

    def states(self, model: HuggingFaceModel, prompts: tuple[Example, ...]) -> States:
        """The residual stream after each block, at the last token of each prompt."""
        rows = [token_ids(self.tokenizer, own.prompt, "x")[0] for own in prompts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: list[Tensor] = []
        for start in range(0, len(order), PIECE):
            some = [rows[i] for i in order[start : start + PIECE]]
            longest = max(map(len, some))
            filled = [[*row, *([row[0]] * (longest - len(row)))] for row in some]
            tokens = torch.tensor(filled, device=self.device)
            at = torch.tensor([len(row) - 1 for row in some], device=self.device)
            found += [piece[1:].cpu() for piece in text_states(model, tokens, at, PIECE)]
        states = torch.cat(found, 1)
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return states[:, back]

    def map(self, trial: LayerTrial) -> dict[str, Any]:
        """The layers of one model over all tasks that were seen: silhouettes, and planes (first seed)."""
        own = LayerTrial("base") if trial.task == "base" else LayerTrial("multi-task", "", trial.seed)
        prompts = tuple(
            prompt for task in self.lessons.seen for prompt in self.lessons.asked(task, self.settings.mapped)
        )
        states = self.states(self.model(own), prompts).double().numpy()
        known_clusters = sorted(set(self.lessons.clusters.values()))
        labels = np.array([known_clusters.index(prompt.cluster) for prompt in prompts])
        silhouettes = [
            separation(principal_components(layer, min(COMPONENTS, *layer.shape)), labels) for layer in states
        ]
        way = self.settings.picture or _way()
        planes = [plane(layer, way).round(4).tolist() for layer in states] if not trial.seed else []
        tasks = [prompt.task for prompt in prompts]
        return {"silhouettes": silhouettes, "planes": planes, "tasks": tasks, "way": way}


def share(scored: Sequence[float]) -> float:
    """Mean score; 0 of none."""
    return sum(scored) / len(scored) if scored else 0.0


def _way() -> Way:
    return "tsne" if find_spec("sklearn") else "pca"


def work(
    run: LayersRun,
    device: torch.device,
    progress: Progress = lambda told, step: None,
    deadline: float | None = None,
) -> int:
    """Do every trial that is not finished and not held by another process; how many were done here."""
    shop = Workshop(run, device)

    return work_through(run, lambda trial: shop.perform(trial, progress), progress, deadline)
