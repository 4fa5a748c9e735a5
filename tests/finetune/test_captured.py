"""The update that a GPU records is the trainer's own: made on the CPU here, and recorded on a GPU."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.finetune.test_training import COMPILED, MEMBERS, assert_identical, job, random_model
from veneer.finetune.captured import CapturedUpdates
from veneer.finetune.fleet import FleetJob
from veneer.finetune.method import FullFineTuning
from veneer.finetune.methods import LastBlock
from veneer.finetune.trainer import Trained, train
from veneer.tasks import random


class Unrecorded(CapturedUpdates):
    """Makes each update anew, after one that must leave nothing behind."""

    def _record(self) -> Callable[[], None]:
        self._make()
        return self._make


class Captured(FleetJob):
    """A job whose updates are of that kind, on any device."""

    def captured(self, optimizer: Any, course: Any, step: int) -> CapturedUpdates:
        roots, draw = self._stream([member.mixture for member in self.members], f"train/{self.stream}")

        def work(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.worked_out(draw(keys))
            assert found is not None
            return found

        return Unrecorded(work, roots, optimizer, course, step)


def test_steps_have_the_same_keys_as_tensors_and_as_numbers() -> None:
    roots = [random.stream_key("task", seed, "train") for seed in range(5)]
    for step in (0, 1, 77, 10**6):
        expected = [random.step_key(root, step) for root in roots]
        assert random.step_keys(torch.tensor(roots), torch.tensor([step])).tolist() == expected


@pytest.mark.parametrize("wild", [False, True])
def test_an_update_whose_inputs_stay_in_place_is_the_trainers(wild: bool) -> None:
    members = [replace(m, learning_rate=1e30) if wild and i == 2 else m for i, m in enumerate(MEMBERS)]

    def trained(kind: type[FleetJob]) -> Trained:
        asked = job(random_model(COMPILED, 8), members)
        return train(kind(**{name: getattr(asked, name) for name in FleetJob.__dataclass_fields__}))

    assert_identical(trained(Captured), trained(FleetJob))


@pytest.mark.gpu
def test_a_graph_gives_the_bits_of_its_kernels_one_by_one() -> None:
    def trained(graph: bool) -> Trained:
        asked = job(random_model(COMPILED, 8).cuda(), MEMBERS, iterations=60)
        if not graph:
            asked.captured = lambda *given: None  # pyright: ignore[reportAttributeAccessIssue]
        return train(asked)

    assert_identical(trained(True), trained(False))


@pytest.mark.gpu
def test_only_written_models_trained_as_they_come_are_captured() -> None:
    def recorded(optimizer: str, method: Any) -> bool:
        asked, made = job(random_model(COMPILED, 8).cuda(), MEMBERS, optimizer, method=method), []
        own = asked.captured
        asked.captured = lambda *given: made.append(own(*given)) or made[-1]  # pyright: ignore[reportAttributeAccessIssue]
        train(asked)
        return made[0] is not None

    assert recorded("sgd", FullFineTuning())
    assert not recorded("adamw", FullFineTuning())
    assert not recorded("sgd", LastBlock())
