"""Before any work: look at all that goes in, refuse what cannot be used, and say what it will cost.

Nothing is written until everything has been looked at.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from veneer.experiments.environment import environment
from veneer.experiments.relearn.settings import Relearning
from veneer.experiments.relearn.store import RelearningRun, input_hashes
from veneer.experiments.relearn.work import memory_needed
from veneer.experiments.trial_folder import Prepared
from veneer.finetune.trainer import check_device
from veneer.language.encoding import check_tokenizers
from veneer.language.metrics import CHOICES, guess, judged, metric_of
from veneer.language.questions import Question, divide, permuted_answers, read_questions, with_choices
from veneer.models.loading import check_memory, check_source, load_model, load_tokenizer, weights_hash
from veneer.tasks.errors import InputError

SECONDS_PER_FLOP = 1 / 30e9
"""A core's pace on matrix products, for the estimate of time; measured pace differs by a factor of three."""


@dataclass(frozen=True)
class Ready(Prepared[RelearningRun]):
    """An evaluation that can begin.

    Attributes:
        same: whether ``before`` and ``after`` are the same weights.
    """

    same: bool


def prepare(
    settings: Relearning, out: Path, device: torch.device, jobs: int, like: Path | None = None
) -> Ready:
    """Check all that goes in, and open the folder.

    Raises:
        InputError: a model, a file or an option that cannot be used, or too little memory.
    """
    RelearningRun.check(out, settings)
    fresh = not (out / "relearning.json").exists()
    check_device(device.type, settings.precision, False)
    questions = _questions(settings)
    costs = {subject: check_source(settings.source(subject)) for subject in settings.subjects}
    parameters = max((cost.parameters for cost in costs.values() if cost), default=0)
    if parameters:
        needed = jobs * memory_needed(settings, parameters)
        check_memory(needed, f"{jobs} job(s) of this evaluation", device.type)
    tokenizer = load_tokenizer(settings.before)
    for subject in settings.subjects[1:]:
        other = load_tokenizer(settings.source(subject))
        check_tokenizers(tokenizer, other, questions, settings.source(subject))
    hashes = input_hashes(settings)
    same = not (out / "trials").exists() and _same(settings, hashes["models"])
    run = RelearningRun.open(out, settings)
    try:
        run.record_inputs({**hashes, "environment": environment(device)})
        if like is not None:
            run.take_over(RelearningRun.read(like))
    except InputError:
        if fresh:
            run.withdraw()
        raise
    told = [f"{subject}: {settings.source(subject)}" for subject in settings.subjects]
    if parameters:
        tokens = sum(len(tokenizer(f"{q.prompt} {q.answer}")["input_ids"]) for q in questions) / len(
            questions
        )
        seconds = _seconds(settings, parameters, tokens, len(questions))
        size = memory_needed(settings, parameters) / 1e9
        told.append(
            f"{parameters / 1e6:,.1f} M parameters; {len(settings.trials())} trials, roughly "
            f"{max(1, round(seconds / 60)):,} min on one core of a CPU, and {size:.1f} GB a process"
        )
    return Ready(run, fresh, tuple(told), same)


def _questions(settings: Relearning) -> tuple[Question, ...]:
    """All questions, read and tried: they can be divided, permuted and scored."""
    questions = read_questions(Path(settings.data))
    divide(questions, 0, settings.taught_share)
    permuted_answers(questions, 0)
    metric = metric_of(settings.metric)
    for own in questions if metric.function is not None else ():
        judged(metric, own, own.answer)  # what raises of the right answer is refused before models are loaded
    if metric.name == "choice":
        with_choices(questions, CHOICES, 0)
    if (known := guess(questions, metric)) is not None and known >= 1:
        raise InputError(
            "data", settings.data, "questions with different answers", "all have the same answer"
        )
    for name in ("retain", "unrelated"):
        if (file := getattr(settings, name)) is not None:
            questions += read_questions(Path(file), name)
    return questions


def _same(settings: Relearning, hashes: dict[str, dict[str, str]]) -> bool:
    """Whether ``before`` and ``after`` are equal weights: by their files, else by their values."""

    def weights(subject: str) -> list[str]:
        return sorted(own for file, own in hashes[subject].items() if not file.endswith(".json"))

    if weights("before") and weights("before") == weights("after"):
        return True
    if settings.before == settings.after:
        return True
    return weights_hash(load_model(settings.before)) == weights_hash(load_model(settings.after))


def _seconds(settings: Relearning, parameters: int, tokens: float, questions: int) -> float:
    """Seconds of all trials on one core, from their matrix products."""
    forward = 2 * parameters * tokens
    asked = questions + (settings.most if settings.retain else 0)
    total = 0.0
    for trial in settings.trials():
        if trial.lesson is None:
            total += forward * asked
            continue
        total += len(settings.steps) * forward * asked
        total += settings.updates * settings.batch * forward * (3 if trial.rank == 0 else 2.2)
    return total * SECONDS_PER_FLOP
