"""Decisions as one batch: tokens, where each is answered, and which token is what."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.token_roles import token_roles
from veneer.language.cddm import SIDES, Trial
from veneer.language.encoding import token_ids
from veneer.language.questions import Question
from veneer.models.text_model import TextModel
from veneer.tasks.errors import InputError

PIECE = 64
"""Prompts at a time."""
TOKENS = ("context", "relevant 1", "relevant 2", "irrelevant 1", "irrelevant 2", "last")
"""Tokens of a prompt that are looked at: the context, the numbers in the order in which they stand, and the
last one, from which the answer is read. Of what has several tokens it is the last."""


@dataclass(frozen=True)
class Prompts:
    """Decisions, encoded.

    Attributes:
        trials: what was asked.
        tokens: prompts, filled up on the right.
        at: position of each prompt's last token.
        labels: token of each right answer.
        answers: tokens of left and right.
        roles: of each prompt's tokens ("context", "relevant", "irrelevant", "last", "other").
        places: of each prompt, the positions of ``TOKENS``.
    """

    trials: tuple[Trial, ...]
    tokens: Int[Tensor, "batch position"]
    at: Int[Tensor, "batch"]
    labels: Int[Tensor, "batch"]
    answers: tuple[int, int]
    roles: tuple[tuple[str, ...], ...]
    places: Int[Tensor, "batch token"]

    def __len__(self) -> int:
        return len(self.trials)

    def first(self, count: int) -> "Prompts":
        """The first of them."""
        return self.chosen(list(range(min(count, len(self)))))

    def chosen(self, which: Sequence[int]) -> "Prompts":
        """Some of them."""
        return Prompts(
            tuple(self.trials[i] for i in which),
            self.tokens[list(which)],
            self.at[list(which)],
            self.labels[list(which)],
            self.answers,
            tuple(self.roles[i] for i in which),
            self.places[list(which)],
        )

    @cached_property
    def variables(self) -> dict[str, Int[Tensor, "batch"]]:
        """What may be read from states, as classes, by name."""
        found = [trial.variables for trial in self.trials]
        return {name: torch.tensor([own[name] for own in found]) for name in found[0]}

    @cached_property
    def pairs(self) -> Int[Tensor, "batch"]:
        """Which pair of relevant numbers each has: what readers do not know from fitting."""
        known = sorted({trial.pair for trial in self.trials})
        return torch.tensor([known.index(trial.pair) for trial in self.trials])

    @cached_property
    def alike(self) -> "Prompts":
        """Those of one wording and of the commonest length, whose tokens have the same places."""
        kinds = [
            (trial.template, int(at), tuple(places))
            for trial, at, places in zip(self.trials, self.at, self._layout, strict=True)
        ]
        common = max(sorted(set(kinds)), key=kinds.count)
        return self.chosen([i for i, kind in enumerate(kinds) if kind == common])

    @property
    def _layout(self) -> list[list[int]]:
        """Positions of context and numbers, whichever of these are the relevant ones."""
        return [sorted(own) for own in self.places.tolist()]


def question(trial: Trial) -> Question:
    """A decision as it is taught."""
    return Question(trial.prompt, trial.answer, trial.prompt)


def encoded(tokenizer: Any, asked: Sequence[Trial], device: torch.device | str = "cpu") -> Prompts:
    """Decisions as one batch.

    Raises:
        InputError: left and right are no single tokens of this vocabulary, or one and the same.
    """
    ids, roles, places = [], [], []
    for trial in asked:
        own, _ = token_ids(tokenizer, trial.prompt, trial.answer)
        found = tokenizer(trial.prompt, return_offsets_mapping=True, add_special_tokens=True)
        named = token_roles(found["offset_mapping"][: len(own)], trial.spans())
        at = places_of(found["offset_mapping"][: len(own)], trial)
        ids.append(own)
        places.append([*at, len(own) - 1])
        roles.append((*named[:-1], "last"))
    answers = answer_tokens(tokenizer)
    longest = max(map(len, ids))
    rows = [[*own, *([own[0]] * (longest - len(own)))] for own in ids]
    return Prompts(
        tuple(asked),
        torch.tensor(rows, device=device),
        torch.tensor([len(own) - 1 for own in ids], device=device),
        torch.tensor([answers[SIDES.index(trial.choice)] for trial in asked], device=device),
        answers,
        tuple(roles),
        torch.tensor(places, device=device),
    )


def places_of(offsets: Sequence[tuple[int, int]], trial: Trial) -> list[int]:
    """Positions of the last token of the context and of each number, in the order of ``TOKENS``."""
    spans = trial.spans()
    return [
        max(place for place, (start, end) in enumerate(offsets) if start < last and first < end)
        for role in ("context", "relevant", "irrelevant")
        for first, last in spans[role]
    ]


def answer_tokens(tokenizer: Any) -> tuple[int, int]:
    """Tokens of left and right.

    Raises:
        InputError: they are no single tokens, or one and the same.
    """
    left, right = (token_ids(tokenizer, "Answer:", f" {side}")[1] for side in SIDES)
    if len(left) != 1 or len(right) != 1 or left == right:
        problem = f"it reads them as {len(left)} and {len(right)} tokens"
        raise InputError("base", "its tokenizer", "one that has a token for left and one for right", problem)
    return left[0], right[0]


@torch.no_grad()
def answered(model: TextModel, prompts: Prompts) -> Float[Tensor, "batch"]:
    """Logit of the right answer less that of the wrong one; above 0 the answer is right."""
    found = []
    for some in torch.arange(len(prompts), device=prompts.tokens.device).split(PIECE):
        at = prompts.at[some]
        tokens = prompts.tokens[some, : int(at.max()) + 1]
        logits = model.logits_at(tokens, torch.arange(len(some), device=tokens.device), at)
        left, right = logits[:, list(prompts.answers)].double().T
        is_left = prompts.labels[some] == prompts.answers[0]
        found.append(torch.where(is_left, left - right, right - left))
    return torch.cat(found).cpu()


def scores(model: TextModel, prompts: Prompts) -> dict[str, float]:
    """Accuracy (of all, of congruent and of incongruent decisions) and mean difference of logits."""
    difference = answered(model, prompts)
    right = (difference > 0).double()
    same = prompts.variables["congruence"] == 1
    return {
        "accuracy": float(right.mean()),
        "congruent": float(right[same].mean()),
        "incongruent": float(right[~same].mean()),
        "difference": float(difference.mean()),
    }
