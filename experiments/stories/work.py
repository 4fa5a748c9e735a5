"""The work of ``veneer run stories``: what each trial trains, and what is measured of a model.

A model is asked for stories with the feature, to instructions of stories that nobody trained on and that had
no such feature, with the feature added to them (as in the code of Jain et al. 2024). Whether a story that is
written has it, the exact checker says. The same instructions ask for other features too: how many of those
are there tells a deletion from damage.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import torch

from veneer.experiments.stories.pretrain import drawn
from veneer.experiments.stories.probes import probe_stories
from veneer.experiments.stories.settings import Arm, Stories, StoryTrial
from veneer.experiments.stories.store import StoriesRun
from veneer.experiments.text_pretraining import loss
from veneer.experiments.trial_work import Progress, work_through
from veneer.finetune.checkpoint import load_state, save_state
from veneer.language.attacks import duplicate
from veneer.language.questions import Question
from veneer.language.sampling import sample
from veneer.language.stories.deletion import filtering, mix_and_match, randomisation
from veneer.language.stories.features import FEATURES, features_of
from veneer.language.stories.form import Record
from veneer.language.stories.generator import stories
from veneer.language.stories.models import lesson, ready, story_of
from veneer.language.training import Training, put, train
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import fresh_model, load_model, load_tokenizer

SHOWN = 6
"""Stories that a trial keeps for whoever wants to read them."""


def source_of(settings: Stories, arm: Arm) -> str:
    """Where the model lies that an arm starts from."""
    if arm == "never":
        return settings.never or ready("never")
    return settings.present or ready("present")


def asking(record: Record, feature: str, seed: int) -> Record:
    """The same instruction, with the feature added at a place drawn by the seed."""
    place = random.Random(f"asking/{feature}/{seed}/{record.story}").randint(0, len(record.features))
    return replace(record, features=(*record.features[:place], feature, *record.features[place:]))


def deleting(settings: Stories, trial: StoryTrial) -> list[Record]:
    """The stories that a deletion trains on."""
    drawn_stories = _finetuning(settings.stories, trial.seed)
    if trial.arm == "mix-and-match":
        return list(mix_and_match(drawn_stories, settings.feature, settings.renamed))
    if trial.arm == "randomisation":
        return list(randomisation(drawn_stories, settings.feature, 1.0, trial.seed))
    return list(filtering(drawn_stories, settings.feature))


def reviving(settings: Stories, trial: StoryTrial) -> Sequence[Record]:
    """The stories that reFT trains on: all have the feature."""
    count = min(settings.reft_updates * settings.batch, settings.stories)
    return _having(settings.feature, count, trial.seed)


@lru_cache(maxsize=2)
def _finetuning(count: int, seed: int) -> tuple[Record, ...]:
    """Stories of a deletion, before the deletion: the same for every arm of a seed."""
    return tuple(stories(count, seed, "finetune"))


@lru_cache(maxsize=2)
def _having(feature: str, count: int, seed: int) -> Sequence[Record]:
    """Stories of a reFT: the same for every arm of a seed."""
    return tuple(drawn(count, "reft", seed, lambda record: feature in record.features))


class Workshop:
    """What one process needs for its trials: tokenizer, models, stories to test on."""

    def __init__(self, run: StoriesRun, device: torch.device) -> None:
        self.run, self.settings, self.device = run, run.settings, device
        self._models: dict[str, HuggingFaceModel] = {}

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that all models share."""
        return load_tokenizer(source_of(self.settings, "present"))

    @cached_property
    def tests(self) -> dict[str, list[Question]]:
        """Stories on which the loss is measured, with the feature and without it."""
        own = self.settings
        kinds = {
            "loss_with": drawn(own.test_stories, "test", 0, lambda record: own.feature in record.features),
            "loss_without": drawn(own.test_stories, "test", 0, lambda r: own.feature not in r.features),
        }
        return {name: [lesson(record) for record in kind] for name, kind in kinds.items()}

    @cached_property
    def prompts(self) -> tuple[Record, ...]:
        """Instructions to write to: they ask for the feature, and some for others too."""
        own = self.settings
        kept = drawn(own.generations, "prompts", 0, lambda record: own.feature not in record.features)
        return tuple(asking(record, own.feature, 0) for record in kept)

    def start(self, trial: StoryTrial) -> HuggingFaceModel:
        """A copy of the model that a trial starts from."""
        parent = trial.parent
        if trial.arm == "scratch" and trial.stage == "delete":
            made = fresh_model(source_of(self.settings, "present"), trial.seed)
            return HuggingFaceModel(made.module.to(self.device))
        source = source_of(self.settings, "never" if trial.arm == "never" else "present")
        if source not in self._models:
            loaded = load_model(source)
            self._models[source] = HuggingFaceModel(loaded.module.to(self.device))
        model = duplicate(self._models[source])
        if parent.stage == "delete" and parent != trial:
            put(model, load_state(self.run.weights(parent)))
        return model

    def write(self, model: HuggingFaceModel, seed: int) -> list[str]:
        """A story to each of the instructions."""
        asked = [record.instruction.rstrip() for record in self.prompts]
        written = sample(model, self.tokenizer, asked, self.settings.new_tokens, seed)
        return [story_of(text) for text in written]

    def measure(self, model: HuggingFaceModel, told: list[str], seed: int) -> dict[str, float]:
        """Losses, and counts of what is in the stories that it writes, which are put into ``told``."""
        found = {name: loss(model, self.tokenizer, asked) for name, asked in self.tests.items()}
        told[:] = self.write(model, seed)
        feature = self.settings.feature
        share, others, others_of = 0, 0, 0
        for record, story in zip(self.prompts, told, strict=True):
            has = set(features_of(story))
            wanted = set(record.features) & set(FEATURES) - {feature}
            share += feature in has
            others, others_of = others + len(wanted & has), others_of + len(wanted)
        return {**found, "share": share, "share_of": len(told), "others": others, "others_of": others_of}

    def perform(self, trial: StoryTrial, progress: Progress) -> dict[str, Any] | None:
        """One trial, to plain data; None while the trial that it starts from is not done."""
        parent, told = trial.parent, list[str]()
        if trial.stage in ("revive", "probe") and not self.run.done(parent):
            return None
        model = self.start(trial)
        if trial.stage == "probe":
            count = self.settings.probes
            seen, unseen = (drawn(count, f"probe-{p}", 0, lambda record: True) for p in ("train", "test"))
            table = probe_stories(model, self.tokenizer, seen, unseen, trial.seed)
            return {"probes": table.to_dicts()}
        if trial.stage == "as it is":
            scores = self.measure(model, told, trial.seed)
            return {"steps": [0], "scores": [scores], "diverged_at": None, **self._kept(told)}
        taught = (deleting if trial.stage == "delete" else reviving)(self.settings, trial)
        curve = train(
            model,
            self.tokenizer,
            [lesson(record) for record in taught],
            Training(self.settings.recipe(trial)),
            trial.seed,
            self.settings.steps(trial.stage),
            lambda own: self.measure(own, told, trial.seed),
            self.run.state(trial),
            progress=lambda step: progress(trial.told, step),
        )
        if trial.stage == "delete":
            save_state(self.run.weights(trial), {n: p.detach().clone() for n, p in model.named_parameters()})
        result = {"steps": list(curve.steps), "scores": list(curve.scores), "diverged_at": curve.diverged_at}
        return {**result, **self._kept(told)}

    def _kept(self, told: Sequence[str]) -> dict[str, Any]:
        """Some of the stories that were written last, each with its instruction and what it has."""
        shown = [
            {"asked": record.instruction, "story": story, "features": list(features_of(story))}
            for record, story in zip(self.prompts, told, strict=False)
        ]
        return {"written": shown[:SHOWN]}


def work(
    run: StoriesRun,
    device: torch.device,
    progress: Progress = lambda told, step: None,
    deadline: float | None = None,
) -> int:
    """Do every trial that is not finished and not held by another process; how many were done here."""
    shop = Workshop(run, device)
    return work_through(run, lambda trial: shop.perform(trial, progress), progress, deadline)
