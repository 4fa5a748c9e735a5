"""How well a text model answers: a score of each question, between nothing and everything right.

Four metrics: multiple choice by likelihood, exact match, the answer's log-probability, and a Python function
of one's own. All but the last read the logits of the answers' tokens alone. An exact match asks
that the likeliest token be right at each place of the answer, which is what greedy decoding gives.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from veneer.language.encoding import encode, token_ids
from veneer.language.questions import Question, with_choices
from veneer.models.text_model import TextModel
from veneer.tasks import user_code
from veneer.tasks.errors import InputError

Score = Callable[[str, str, str], float]
CHOICES = 3
"""Wrong answers beside the right one where the data offers none."""
BATCH = 64
"""Answers that go through the model at once, at most."""
TOKENS = 4_096
"""Tokens that do, unless one answer has more: of long ones few are read faster, by what a cache holds."""
NEW_TOKENS = 16
"""Tokens that are written for a metric of one's own."""


@dataclass(frozen=True)
class Metric:
    """A way to score answers.

    Attributes:
        name: "exact", "choice", "log-probability", or FILE.py:FUNCTION.
        function: of the last: (prompt, answer, written text) to a number.
    """

    name: str
    function: Score | None = None


def metric_of(name: str) -> Metric:
    """A metric by its name.

    Raises:
        InputError: no such metric, or a file or function that cannot be loaded.
    """
    if name in ("exact", "choice", "log-probability"):
        return Metric(name)
    valid = "exact, choice, log-probability or FILE.py:FUNCTION"
    path, _, function = name.rpartition(":")
    if not path.endswith(".py"):
        raise InputError("metric", name, valid)
    if not Path(path).is_file():
        raise InputError("metric", name, valid, "there is no such file")
    found = getattr(user_code.load(Path(path), "metric", name, valid), function, None)
    if not callable(found):
        problem = f"{Path(path).name} has no function {function!r}"
        raise InputError("metric", name, valid, problem)
    return Metric(name, cast(Score, found))


@torch.no_grad()
def scores(
    model: TextModel, tokenizer: Any, questions: Sequence[Question], metric: Metric, seed: int = 0
) -> list[float]:
    """The score of each question.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        questions: what to ask.
        metric: how to score.
        seed: chooses the wrong answers of a multiple choice where the data offers none.

    Raises:
        InputError: a metric's function raises, or gives no finite number.
    """
    if metric.function is not None:
        return [judged(metric, own, write(model, tokenizer, own.prompt, NEW_TOKENS)) for own in questions]
    if metric.name == "choice":
        return _choice(model, tokenizer, with_choices(questions, CHOICES, seed))
    answered = answer_scores(model, tokenizer, [(own.prompt, own.answer) for own in questions])
    return [own.right if metric.name == "exact" else own.log_probability for own in answered]


def guess(questions: Sequence[Question], metric: Metric) -> float | None:
    """The mean score of answering without knowing: by the commonest answer, or by chance among choices.

    None where it depends on the model: of log-probabilities, and of a metric of one's own.
    """
    if metric.name == "exact":
        answers = [own.answer for own in questions]
        return max(answers.count(own) for own in set(answers)) / len(answers)
    if metric.name == "choice":
        offered = [1 + (len(own.choices) or CHOICES) for own in questions]
        return sum(1 / count for count in offered) / len(offered)
    return None


@dataclass(frozen=True)
class Answered:
    """Of one answer: its mean log-probability a token, and whether greedy decoding gives it (1 or 0)."""

    log_probability: float
    right: float


@torch.no_grad()
def answer_scores(model: TextModel, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[Answered]:
    """Log-probability (nats a token) and exactness of answers behind their prompts."""
    device = next(p for _, p in model.named_parameters()).device
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    found: dict[int, Answered] = {}
    for chosen in _batches(order, [sum(map(len, token_ids(tokenizer, *pair))) for pair in pairs]):
        batch = encode(tokenizer, [pairs[i][0] for i in chosen], [pairs[i][1] for i in chosen]).to(device)
        logits = model.logits_at(batch.tokens, batch.items, batch.positions).float()
        likely = logits.log_softmax(-1).gather(1, batch.targets.unsqueeze(1)).squeeze(1)
        right = logits.argmax(-1) == batch.targets
        for place, i in enumerate(chosen):
            own = batch.items == place
            found[i] = Answered(float(likely[own].mean()), float(right[own].all()))
    return [found[i] for i in range(len(pairs))]


def _batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Items in their order, as many at once as ``BATCH`` and ``TOKENS`` allow."""
    batch: list[int] = []
    for i in order:
        longest = max(lengths[j] for j in (*batch, i))
        if batch and (len(batch) == BATCH or longest * (len(batch) + 1) > TOKENS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _choice(model: TextModel, tokenizer: Any, questions: Sequence[Question]) -> list[float]:
    """1 where the right answer is likelier, a token, than every wrong one."""
    pairs = [(own.prompt, answer) for own in questions for answer in (own.answer, *own.choices)]
    answered = iter(answer_scores(model, tokenizer, pairs))
    result = []
    for own in questions:
        right, *wrong = (next(answered).log_probability for _ in range(1 + len(own.choices)))
        result.append(float(right > max(wrong)))
    return result


def judged(metric: Metric, question: Question, written: str) -> float:
    """What a metric of one's own gives for a text that was written.

    Raises:
        InputError: it raises, or gives no finite number.
    """
    assert metric.function is not None
    valid = "a function (prompt, answer, written text) to a finite number"
    file = Path(metric.name.rpartition(":")[0])
    with user_code.running(file, "metric", metric.name, valid):
        score = float(metric.function(question.prompt, question.answer, written))
    if not math.isfinite(score):
        raise InputError("metric", metric.name, valid, f"it gave {score} for {question.prompt!r}")
    return score


@torch.no_grad()
def write(model: TextModel, tokenizer: Any, prompt: str, most: int) -> str:
    """What a model goes on with, taking the likeliest token each time, up to its end token."""
    device = next(p for _, p in model.named_parameters()).device
    ids, _ = token_ids(tokenizer, prompt, prompt)
    length = len(ids)
    for _ in range(most):
        tokens = torch.tensor([ids], device=device)
        place = torch.tensor([len(ids) - 1], device=device)
        likeliest = int(model.logits_at(tokens, torch.zeros_like(place), place).argmax())
        if likeliest == tokenizer.eos_token_id:
            break
        ids = [*ids, likeliest]
    return str(tokenizer.decode(ids[length:])).strip()
