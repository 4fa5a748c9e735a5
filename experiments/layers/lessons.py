"""The tasks of a run: what each teaches, and the prompts on which models are asked and compared."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from veneer.experiments.layers.settings import OTHERS, Layers
from veneer.language.instructions.examples import Example, by_task, capped, read_examples, without
from veneer.language.instructions.tasks import TASKS, Use, examples, named, use_of
from veneer.tasks.errors import InputError

FEWEST = 8
"""Fewest prompts on which layers are compared."""
WATCHED = 32
"""Examples of each task by which a training is watched."""
TRIED = 20
"""Examples that are drawn for each different prompt that is wanted; facts have few."""


@dataclass(frozen=True)
class Lessons:
    """The tasks of a run.

    Attributes:
        settings: what the run asks.
        clusters: the cluster of each task, in order.
        own: the examples of a file, by task; empty where programs make them.
    """

    settings: Layers
    clusters: dict[str, str]
    own: dict[str, tuple[Example, ...]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks."""
        return tuple(self.clusters)

    @property
    def seen(self) -> tuple[str, ...]:
        """Those that the multi-task model is tuned on."""
        return tuple(task for task in self.clusters if task not in self.settings.held_out)

    def taught(self, task: str, count: int, seed: int) -> tuple[Example, ...]:
        """Examples to train on; those of a file are the same with every seed."""
        if self.own:
            return tuple(own for own in self.own[task] if _use(own) == "train")[:count]
        return tuple(examples(named(task), count, seed))

    def mixture(self, seed: int) -> tuple[Example, ...]:
        """What the multi-task model is tuned on: equally much of every cluster, as far as there is."""
        cap = self.settings.cluster_examples
        every = [own for task in self.tasks for own in self.taught(task, cap, seed)]
        return capped(without(every, [t for t in self.tasks if t not in self.seen]), cap, seed)

    def asked(self, task: str, count: int) -> tuple[Example, ...]:
        """Examples whose inputs nobody trained on (facts aside), each prompt once; the same for all."""
        return self._different(task, count, "test")

    def watched(self, tasks: Iterable[str]) -> tuple[Example, ...]:
        """Examples by which a training is watched: neither trained on nor asked later (facts aside)."""
        return tuple(own for task in tasks for own in self._different(task, WATCHED, "watch"))

    def _different(self, task: str, count: int, use: Use) -> tuple[Example, ...]:
        if self.own:
            found: Iterable[Example] = (own for own in self.own[task] if _use(own) == use)
        else:
            found = examples(named(task), count * TRIED, 0, use)
        different: dict[str, Example] = {}
        for own in islice(found, count * TRIED):
            different.setdefault(own.prompt, own)
            if len(different) == count:
                break
        return tuple(different.values())

    def others(self, task: str) -> tuple[str, ...]:
        """Tasks of other clusters whose specialists the task's own is compared with, spread over all."""
        rest = [own for own, cluster in self.clusters.items() if cluster != self.clusters[task]]
        if not rest:
            return ()
        first = self.tasks.index(task)
        places = [(first + step * len(rest) // OTHERS) % len(rest) for step in range(OTHERS)]
        return tuple(dict.fromkeys(rest[place] for place in places))


def lessons_of(settings: Layers) -> Lessons:
    """The tasks that a run asks for.

    Raises:
        InputError: a task that does not exist, too few tasks to compare, or too few prompts of one.
    """
    own = by_task(read_examples(Path(settings.data))) if settings.data else {}
    known = {task: found[0].cluster for task, found in own.items()} if own else _clusters()
    clusters = {task: own for task, own in known.items() if not settings.tasks or task in settings.tasks}
    for name, valid in (("tasks", known), ("held_out", known), ("ceiling", clusters)):
        given = getattr(settings, name)
        chosen = [task for task in given if task not in valid]
        default = name == "held_out" and given == Layers.held_out
        if chosen and not default:
            raise InputError(name, chosen[0], ", ".join(valid) or "one of the tasks of the run")
    found = Lessons(settings, clusters, own)
    if len(found.seen) < 2 or len({clusters[task] for task in found.seen}) < 2:
        valid = "two tasks of two clusters, or more, that are not held out"
        raise InputError("tasks", ", ".join(found.seen) or None, valid)
    for task in clusters if own else ():
        if len(found.asked(task, FEWEST)) < FEWEST:
            valid = f"{FEWEST} prompts of every task that are kept for testing (about one in five inputs)"
            raise InputError("data", settings.data, valid, f"{task} has fewer")
        if not found.taught(task, 1, 0):
            raise InputError("data", settings.data, "examples to train on", f"{task} has none")
    return found


def _clusters() -> dict[str, str]:
    return {task.name: task.cluster for task in TASKS}


def _use(own: Example) -> Use:
    return use_of(own.task, own.input or own.instruction)
