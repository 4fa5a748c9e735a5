"""The work of ``veneer run cddm``: what each trial trains, and what it finds inside the model."""

import math
from functools import cached_property
from typing import Any

import torch

from veneer.analysis.ablation import HOWS
from veneer.experiments.cddm import look
from veneer.experiments.cddm.prompts import Prompts, encoded, question, scores
from veneer.experiments.cddm.settings import Arm, Decisions, DecisionTrial, Stage
from veneer.experiments.cddm.store import DecisionsRun
from veneer.experiments.trial_work import Progress, work_through
from veneer.finetune.checkpoint import load_state, save_state
from veneer.language.attacks import duplicate, permuted
from veneer.language.cddm import UNSEEN, trials
from veneer.language.encoding import Encoded, encode_questions
from veneer.language.numbers import number_texts
from veneer.language.questions import Question
from veneer.language.stories.generator import stories
from veneer.language.stories.models import ready
from veneer.language.training import Training, adapt, adapter, merge, put, train
from veneer.models.files import checksum
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import fresh_model, load_model, load_tokenizer

HELD_OUT, WORDED, TAUGHT = "held-out numbers", "held-out wording", "taught numbers"
"""Kinds of decisions on which a model is measured at the end: new numbers; new numbers in a new wording; new
decisions on numbers that were taught."""


def source_of(settings: Decisions) -> str:
    """Where the pretrained model lies."""
    return settings.base or ready("numbers")


def ordinary(count: int) -> list[Question]:
    """Ordinary texts that no arm is taught: stories behind their instructions, and texts about numbers."""
    told = [
        Question(record.instruction.rstrip(), f"\n\n{record.story}", record.story)
        for record in stories(count - count // 2, 0, "generic")
    ]
    for text in number_texts(count // 2, 0, "generic"):
        first, _, rest = text.partition(". ")
        told.append(Question(f"{first}.", f" {rest}", text))
    return told


class Workshop:
    """What one process needs for its trials: tokenizer, the pretrained model, decisions to test on."""

    def __init__(self, run: DecisionsRun, device: torch.device) -> None:
        self.run, self.settings, self.device = run, run.settings, device

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that all arms share."""
        return load_tokenizer(source_of(self.settings))

    @cached_property
    def pretrained(self) -> HuggingFaceModel:
        """The pretrained model; it is not to be changed."""
        return HuggingFaceModel(load_model(source_of(self.settings)).module.to(self.device))

    @cached_property
    def checked(self) -> Prompts:
        """Held-out decisions on which accuracy is measured while an arm trains."""
        own = self.settings
        asked = trials(own.checked, 0, "check", held_out=True, templates=own.templates)
        return encoded(self.tokenizer, list(asked), self.device)

    @cached_property
    def looked(self) -> dict[str, Prompts]:
        """Decisions for the end, by kind."""
        count, templates = self.settings.looked, self.settings.templates
        kinds = {
            HELD_OUT: trials(count, 0, "look", held_out=True, templates=templates),
            WORDED: trials(count, 0, "look", held_out=True, templates=UNSEEN),
            TAUGHT: trials(count, 0, "look", templates=templates),
        }
        return {name: encoded(self.tokenizer, list(asked), self.device) for name, asked in kinds.items()}

    @cached_property
    def texts(self) -> Encoded:
        """Ordinary texts."""
        return encode_questions(self.tokenizer, ordinary(self.settings.generic)).to(self.device)

    def rank(self, arm: Arm) -> int:
        """LoRA's rank of an arm: what starts from fresh weights has none."""
        return 0 if arm == "scratch" else self.settings.rank

    def start(self, trial: DecisionTrial) -> HuggingFaceModel:
        """A copy of the model that an arm starts from."""
        if trial.arm == "scratch":
            return HuggingFaceModel(fresh_model(source_of(self.settings), trial.seed).module.to(self.device))
        return (
            permuted(self.pretrained, trial.seed) if trial.arm == "shuffled" else duplicate(self.pretrained)
        )

    def model(self, trial: DecisionTrial) -> HuggingFaceModel:
        """The model that a trial looks into; it is not to be changed."""
        if trial.trained is None:
            return self.pretrained
        model, rank = self.start(trial), self.rank(trial.arm)
        if rank:
            adapt(model, rank, trial.seed)
        put(model, load_state(self.run.weights(trial.trained)))
        return merge(model) if rank else model

    def train(self, trial: DecisionTrial, progress: Progress) -> dict[str, Any]:
        """Train an arm until it decides well enough, and keep its weights."""
        own, model = self.settings, self.start(trial)
        taught = [question(one) for one in trials(own.trials, trial.seed, "train", templates=own.templates)]
        rank = self.rank(trial.arm)
        curve = train(
            model,
            self.tokenizer,
            taught,
            Training(own.recipe, rank),
            trial.seed,
            own.steps,
            lambda seen: scores(seen, self.checked),
            self.run.state(trial),
            progress=lambda step: progress(trial.told, step),
            enough=lambda found: found["accuracy"] >= own.reach,
        )
        kept = adapter(model) if rank else {n: p.detach().clone() for n, p in model.named_parameters()}
        save_state(self.run.weights(trial), kept)
        losses = [None if math.isnan(loss) else loss for loss in curve.losses]
        told = {"steps": list(curve.steps), "scores": list(curve.scores), "losses": losses}
        weights = checksum(self.run.weights(trial))
        return {**told, "diverged_at": curve.diverged_at, "weights": weights}

    def look(self, trial: DecisionTrial) -> dict[str, Any]:
        """Everything that is found inside a model, as tables in the run's folder.

        The pretrained model guesses, so no part of it is worth anything to its decisions: it is ablated on
        ordinary texts, and the others on decisions.
        """
        model, prompts = self.model(trial), self.looked[HELD_OUT]
        taught, hows = trial.trained is not None, HOWS[: 1 + self.settings.mean_ablation]
        states = look.States(model, prompts)
        single = look.units(states, prompts)
        points, silhouettes = look.pictures(states, prompts, self.settings.embeddings)
        some = prompts.first(look.ATTENDED)
        tables = {
            "final": look.final(model, self.looked),
            "generic": look.generic(model, self.texts, hows[:1] if taught else hows, not taught),
            "similarity": look.similarity(model, self.pretrained, prompts),
            "decoding": look.decoding(states, prompts),
            "units": single,
            "one-unit": look.one_unit(states, single, prompts),
            "attention": look.attention(model, some),
            "points": points,
            "silhouettes": silhouettes,
        }
        if taught:
            effects = look.ablation(model, prompts.first(self.settings.ablated), hows)
            maps = look.maps(model, self.tokenizer, some, effects)
            tables |= {"ablation": effects, "maps": maps}
        return {"tables": self.run.keep_tables(trial, tables)}

    def perform(self, trial: DecisionTrial, progress: Progress) -> dict[str, Any] | None:
        """One trial, to plain data; None while the model that it looks into is not trained."""
        if trial.stage == "train":
            return self.train(trial, progress)
        if trial.trained is not None and not self.run.done(trial.trained):
            return None
        return self.look(trial)


def work(
    run: DecisionsRun,
    device: torch.device,
    progress: Progress = lambda told, step: None,
    deadline: float | None = None,
    stages: tuple[Stage, ...] = ("train", "look"),
) -> int:
    """Do every trial of these stages that is not finished and not held by another process.

    Returns:
        How many were done here.
    """
    shop = Workshop(run, device)

    def perform(trial: DecisionTrial) -> dict[str, Any] | None:
        return shop.perform(trial, progress) if trial.stage in stages else None

    return work_through(run, perform, progress, deadline)
