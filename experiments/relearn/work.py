"""The work of a relearning evaluation: what each trial does.

Models are loaded once a process and copied for each trial.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from veneer.experiments.relearn.settings import Relearning, Subject, Trial
from veneer.experiments.relearn.store import RelearningRun
from veneer.experiments.trial_work import Progress, work_through
from veneer.finetune.checkpoint import load_state, save_state
from veneer.finetune.recipe import Recipe
from veneer.language.attacks import attacked, duplicate
from veneer.language.constructed import mixed
from veneer.language.metrics import Metric, metric_of, scores
from veneer.language.questions import Question, divide, permuted_answers, read_questions, with_answer
from veneer.language.training import Scores, Training, adapt, adapter, merge, put, train
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import load_model, load_tokenizer
from veneer.tasks.errors import InputError

WRAPPER = Recipe("adamw", 1e-3, 48, warmup=4, batch=16, weight_decay=0.0)
"""How ``before`` is taught to refuse, by LoRA; twice and four times as long if need be."""
WRAPPER_RANK = 8


class Workshop:
    """What one process needs for its trials: data, tokenizer, models."""

    def __init__(self, run: RelearningRun, device: torch.device) -> None:
        self.run, self.settings, self.device = run, run.settings, device
        self._models: dict[Subject, HuggingFaceModel] = {}

    @cached_property
    def metric(self) -> Metric:
        """How answers are scored."""
        return metric_of(self.settings.metric)

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """All questions of the capability."""
        return read_questions(Path(self.settings.data))

    @cached_property
    def retain(self) -> tuple[Question, ...]:
        """Questions that should still be answered; none if there is no such set."""
        return read_questions(Path(self.settings.retain), "retain") if self.settings.retain else ()

    @cached_property
    def unrelated(self) -> tuple[Question, ...]:
        """Questions on something else; none if there is no such set."""
        return read_questions(Path(self.settings.unrelated), "unrelated") if self.settings.unrelated else ()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that all subjects share."""
        return load_tokenizer(self.settings.before)

    def model(self, subject: Subject) -> HuggingFaceModel:
        """A subject's model; it is not to be changed."""
        if subject not in self._models:
            made = self._wrapper() if subject == "wrapper" else load_model(self.settings.source(subject))
            self._models[subject] = HuggingFaceModel(made.module.to(self.device))
        return self._models[subject]

    def mean(self, model: HuggingFaceModel, questions: Sequence[Question]) -> float:
        """Mean score of a model on questions."""
        found = scores(model, self.tokenizer, questions, self.metric)
        return sum(found) / len(found)

    def perform(self, trial: Trial, progress: Progress) -> dict[str, Any]:
        """One trial, to plain data."""
        if trial.lesson is not None:
            return self._train(trial, progress)
        model = self.model(trial.subject)
        if trial.attack is not None:
            taught, _ = divide(self.questions, trial.seed or 0, self.settings.taught_share)
            other = self.model("start" if trial.attack.towards == "start" else "before")
            model = attacked(trial.attack, model, other, self.tokenizer, taught, trial.seed or 0)
        found: dict[str, Any] = {"scores": scores(model, self.tokenizer, self.questions, self.metric)}
        if self.retain:
            found["retain"] = self.mean(model, self.retain[: self.settings.most])
        if trial.attack is None and trial.subject == "before":
            wrong = permuted_answers(self.questions, 0)
            found["wrong"] = self.mean(model, wrong)
        return found

    def _train(self, trial: Trial, progress: Progress) -> dict[str, Any]:
        assert trial.seed is not None
        taught, held = divide(self.questions, trial.seed, self.settings.taught_share)
        asked = taught
        if trial.lesson == "permuted":  # a capability that it never had, taught and held out alike
            asked, held = (permuted_answers(part, trial.seed) for part in (taught, held))
        lessons = {"retain": self.retain, "unrelated": self.unrelated}.get(str(trial.lesson), asked)

        def measure(model: HuggingFaceModel) -> Scores:
            found = {"taught": self.mean(model, asked), "held": self.mean(model, held)}
            if self.retain:
                found["retain"] = self.mean(model, self.retain[: self.settings.most])
            return found

        model = duplicate(self.model(trial.subject))
        curve = train(
            model,
            self.tokenizer,
            lessons,
            self.settings.training(trial.rank, trial.rate),
            trial.seed,
            self.settings.steps,
            measure,
            self.run.state(trial),
            progress=lambda step: progress(trial.told, step),
        )
        losses = [None if math.isnan(loss) else loss for loss in curve.losses]
        told = {"steps": list(curve.steps), "scores": list(curve.scores), "losses": losses}
        return {**told, "diverged_at": curve.diverged_at}

    def _wrapper(self) -> HuggingFaceModel:
        """``before``, taught to refuse: made once, kept as LoRA's weights.

        Raises:
            InputError: it does not learn to.
        """
        file = self.run.path / "known-wrapper.safetensors"
        before = self.model("before")
        if file.exists():
            model = duplicate(before)
            adapt(model, WRAPPER_RANK, 0)
            put(model, load_state(file))
            return merge(model)
        refused = with_answer(self.questions, self.settings.refusal)
        lessons = mixed(refused, self.retain)
        knows = self.mean(before, self.questions)
        for length in (1, 2, 4):
            model = duplicate(before)
            recipe = Recipe(**{**vars(WRAPPER), "iterations": length * WRAPPER.iterations})
            steps = (recipe.iterations,)
            curve = train(
                model,
                self.tokenizer,
                lessons,
                Training(recipe, WRAPPER_RANK, accumulate=self.settings.accumulate),
                0,
                steps,
                lambda own: {"left": self.mean(own, self.questions)},
            )
            if curve.scores and curve.scores[-1]["left"] <= knows / 4:
                save_state(file, adapter(model))
                return merge(model)
        valid = "--no-known-wrapper, or another --refusal"
        raise InputError("known wrapper", self.settings.refusal, valid, "before does not learn to refuse")


def work(
    run: RelearningRun,
    device: torch.device,
    progress: Progress = lambda told, step: None,
    deadline: float | None = None,
) -> int:
    """Do every trial that is not finished and not held by another process; how many were done here.

    Args:
        run: the folder.
        device: where to compute.
        progress: called while trials go on, with 0 updates when one is done.
        deadline: time (``time.monotonic``) after which no trial is begun.
    """
    shop = Workshop(run, device)

    def perform(trial: Trial) -> dict[str, Any] | None:
        if trial.subject == "wrapper":
            with run.claim("known-wrapper") as first:
                if not first:
                    return None
                shop.model("wrapper")
        return shop.perform(trial, progress)

    return work_through(run, perform, progress, deadline)


def memory_needed(settings: Relearning, parameters: int) -> int:
    """Bytes that one process needs at most: models that are kept, a copy, gradients, moments.

    Activations come on top; they are small beside these for short questions.
    """
    kept = len(settings.subjects) + settings.known_wrapper
    moving = 3 if 0 in settings.ranks else 0  # gradient and two moments of every weight
    return 4 * parameters * (kept + 1 + moving)
