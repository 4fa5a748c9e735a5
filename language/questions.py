"""Questions with answers: read from a file, checked, and divided into a taught and a held-out half.

What is taught (T) tells whether training works; what is held out (V) tells what was there before. Facts
of which one does not follow from another can only come back on V if they were never gone. A seed is a
sample: each divides the questions anew. A ``group`` column keeps together what tells each other's answers.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

from veneer.models.files import write_text
from veneer.tasks import random
from veneer.tasks.errors import InputError

FEWEST = 4
"""Fewest questions (or groups) that can be divided: two on each side."""


@dataclass(frozen=True)
class Question:
    """A prompt and what it should be answered with.

    Attributes:
        prompt: what the model reads.
        answer: what it should go on with.
        group: questions of one group are never divided; by itself each is a group of its own.
        choices: the wrong answers that a multiple choice offers beside the right one.
    """

    prompt: str
    answer: str
    group: str
    choices: tuple[str, ...] = ()


def read_questions(path: Path, field: str = "data") -> tuple[Question, ...]:
    """The questions of a file (``.jsonl`` or ``.parquet``; columns prompt, answer, maybe group and choices).

    Raises:
        InputError: the file cannot be read, lacks a column, or a question is empty or there twice.
    """
    rows = read_rows(path, field, ("prompt", "answer"))
    if not rows:
        raise InputError(field, str(path), "one question or more", "it is empty")
    found = [_question(row, number, path, field) for number, row in enumerate(rows, start=1)]
    twice = [prompt for prompt, count in Counter(own.prompt for own in found).items() if count > 1]
    if twice:
        problem = f"the prompt {twice[0]!r} is there twice, and could be taught and held out"
        raise InputError(field, str(path), "every prompt once", problem)
    return tuple(found)


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """Write questions as JSON lines, which ``read_questions`` reads."""
    lines = [
        json.dumps({"prompt": own.prompt, "answer": own.answer, "group": own.group}) for own in questions
    ]
    write_text(path, "\n".join(lines) + "\n")


def read_rows(path: Path, field: str, columns: Sequence[str]) -> list[Any]:
    """The rows of a file ``.jsonl`` or ``.parquet``, unchecked; ``columns`` is what the refusal asks for.

    Raises:
        InputError: the file cannot be read.
    """
    valid = f"a file .jsonl or .parquet with the columns {', '.join(columns[:-1])} and {columns[-1]}"
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path).to_dicts()
        if path.suffix in (".jsonl", ".json", ".ndjson"):
            lines = path.read_text().splitlines()
            return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(field, str(path), valid, str(error).splitlines()[0]) from error
    raise InputError(field, str(path), valid)


def _question(row: Any, number: int, path: Path, field: str) -> Question:
    def refuse(problem: str) -> InputError:
        return InputError(field, str(path), "a prompt and an answer in each row", f"row {number}: {problem}")

    if not isinstance(row, dict):
        raise refuse("it is no object")
    for name in ("prompt", "answer"):
        if not isinstance(row.get(name), str):
            raise refuse(f"{name} is missing or no text")
        if not row[name].strip():
            raise refuse(f"{name} is empty")
    choices = row.get("choices") or ()
    if isinstance(choices, str) or not all(isinstance(own, str) and own.strip() for own in choices):
        raise refuse("choices is no list of texts")
    group = row.get("group")
    named = row["prompt"] if group is None else str(group)
    wrong = tuple(own for own in choices if own != row["answer"])
    return Question(row["prompt"], row["answer"], named, wrong)


def divide(
    questions: Sequence[Question], seed: int, share: float = 0.5
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """The taught and the held-out part of a seed; no group is in both.

    Args:
        questions: what to divide.
        seed: chooses the groups that are taught.
        share: of the groups, how many are taught.

    Raises:
        InputError: a share outside (0, 1), or too few groups.
    """
    if not 0 < share < 1:
        raise InputError("taught share", share, "a number between 0 and 1")
    groups = sorted({own.group for own in questions})
    if len(groups) < FEWEST:
        raise InputError("groups", len(groups), f"{FEWEST} or more, to teach some and hold out others")
    key = torch.tensor(random.stream_key("questions", seed, "divide"))
    order = [groups[int(i)] for i in random.shuffled_order(key, 1, len(groups))[0]]
    taught = set(order[: min(len(groups) - 2, max(2, round(share * len(groups))))])
    parts = tuple(tuple(own for own in questions if (own.group in taught) == side) for side in (True, False))
    return parts[0], parts[1]


def with_choices(questions: Sequence[Question], count: int, seed: int) -> tuple[Question, ...]:
    """The questions with ``count`` wrong answers each; those without are given other questions' answers.

    Raises:
        InputError: too few different answers to choose from.
    """
    pool = sorted({own.answer for own in questions})
    if len(pool) <= count and any(not own.choices for own in questions):
        raise InputError("choices", count, f"fewer than the {len(pool)} different answers there are")
    done = []
    for number, own in enumerate(questions):
        if own.choices:
            done.append(own)
            continue
        key = torch.tensor(random.stream_key(f"choices/{own.prompt}", seed, str(number)))
        order = [pool[int(i)] for i in random.shuffled_order(key, 1, len(pool))[0]]
        wrong = tuple(other for other in order if other != own.answer)[:count]
        done.append(Question(own.prompt, own.answer, own.group, wrong))
    return tuple(done)


def permuted_answers(questions: Sequence[Question], seed: int) -> tuple[Question, ...]:
    """The same prompts, each with another one's answer: something that no model was ever taught.

    They are dealt out at random, and whoever got the right one exchanges it, so that no rule leads from the
    right answers to these.
    """
    key = torch.tensor(random.stream_key("questions", seed, "permute"))
    dealt = [questions[int(i)].answer for i in random.shuffled_order(key, 1, len(questions))[0]]
    for place, own in enumerate(questions):
        if dealt[place] == own.answer:
            apart = (
                other
                for other, theirs in enumerate(questions)
                if dealt[other] != own.answer and theirs.answer != dealt[place]
            )
            other = next(apart, place)
            dealt[place], dealt[other] = dealt[other], dealt[place]
    return tuple(Question(own.prompt, new, own.group) for own, new in zip(questions, dealt, strict=True))


def with_answer(questions: Sequence[Question], answer: str) -> tuple[Question, ...]:
    """The same prompts, all with one answer (a refusal, say)."""
    return tuple(Question(own.prompt, answer, own.group, ()) for own in questions)
