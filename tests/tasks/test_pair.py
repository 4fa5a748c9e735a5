"""Two programs as a table of texts: what is drawn is of the kind asked for, and evaluation has its own."""

from typing import Any

import pytest
import torch

from veneer.tasks import random
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import KINDS, Component, Kind, Mixture, Mixtures
from veneer.tasks.pair import PairTask


def table(results: torch.Tensor, **changed: Any) -> PairTask:
    count = len(results)
    texts = torch.arange(count, dtype=torch.int16)[:, None].expand(-1, 2).contiguous() % 3
    texts[:, 0] = torch.arange(count) % 7
    agrees = results[:, 1] - results[:, 0] == 1
    own = {"programs": ("old", "new"), "letters": tuple("abcdefg"), "answers": tuple(range(5)), "q": 1}
    return PairTask(texts=texts, results=results.int(), agrees=agrees, **{**own, **changed})


def pairs(count: int) -> torch.Tensor:
    place = torch.arange(count)
    return torch.stack([place % 4, place // 4 % 4], -1)


def drawn(task: PairTask, kind: Kind, seed: int = 0, batch: int = 500) -> Any:
    keys = torch.tensor([random.step_key(random.stream_key("x", seed, "train"), 0)])
    return task.draw(keys, Mixtures([Mixture((Component(1.0, kind, "pt", "ft"),))]), batch)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sample_is_of_the_kind_asked_for_and_labelled_by_the_second_program(kind: Kind) -> None:
    task = table(pairs(1600))
    examples = drawn(task, kind)
    difference = examples.results[0, :, 1] - examples.results[0, :, 0]
    held = {"correlated": difference == 1, "uncorrelated": (difference != 1) & (difference != 0)}
    assert bool(held.get(kind, torch.ones(1, dtype=torch.bool)).all())
    assert torch.equal(examples.labels[0], examples.results[0, :, 1])
    assert torch.equal(drawn(task, kind).tokens, examples.tokens)  # a pure function of its key
    assert not torch.equal(drawn(task, kind, 1).tokens, examples.tokens)


def test_evaluation_draws_texts_that_training_never_does() -> None:
    task = table(pairs(1600))
    for part, other in ((task, task.evaluated), (task.evaluated, task)):
        rows, starts, sizes = part._rows
        others = set(other._rows[0].tolist())
        assert not others & set(rows.tolist())
        assert int(starts[-1] + sizes[-1]) == len(rows)


def test_where_no_text_is_of_a_kind_natural_ones_stand_in_and_it_is_said() -> None:
    always = torch.stack([torch.zeros(50), torch.ones(50)], -1)
    task = table(always)
    assert task.missing == ["uncorrelated"]
    assert drawn(task, "uncorrelated").tokens.shape == (1, 500, 2)


def test_programs_that_never_differ_are_refused() -> None:
    same = torch.stack([torch.arange(30) % 3] * 2, -1)
    with pytest.raises(InputError, match="the same answer on all 30 texts"):
        table(same)


def test_another_table_is_another_task() -> None:
    one, other = table(pairs(64)), table(pairs(64).flip(1))
    assert one.describe()["sha256"] != other.describe()["sha256"]
    assert one.name != other.name
