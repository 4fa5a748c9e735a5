"""A stored run's task, built again from its files: which tokens answers hang on, how labels are spread.

Labels are those of Jain et al. 2024, Fig. 16, which shows that fine-tuning data with and without the
correlation have close label distributions, so that a model cannot tell them apart by these.
"""

from pathlib import Path
from typing import Any

import torch

from veneer.compiled.pairs import load_task
from veneer.experiments.named import pair_key
from veneer.experiments.store import PROGRAMS
from veneer.pcfg.families import SampleLayout
from veneer.pcfg.operand_task import OperandTask
from veneer.tasks import random
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import MarkedTask, Task
from veneer.tasks.errors import InputError
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import Mixtures, fine_tuning

FAMILIES = {"pcfg-counter": "C", "pcfg-indexer": "I"}
HISTOGRAM_SAMPLES = 4000


def learned(experiment: dict[str, Any]) -> bool:
    """Whether a run's capabilities were learned rather than written."""
    return experiment["name"] in FAMILIES


def layout_of(model: dict[str, Any]) -> SampleLayout:
    """The layout of a learned capability's samples, from its ``model.json``."""
    return SampleLayout.read(model["metadata"]["layout"])


def stored_task(experiment: dict[str, Any], model: dict[str, Any], run: Path) -> Task:
    """The task of a run's cells.

    Args:
        experiment: the content of ``experiment.json``.
        model: the content of a capability's ``model.json``.
        run: the run's folder, which holds the texts of a user's programs.

    Raises:
        InputError: files that do not describe a task of ours.
    """
    settings, name = experiment["fields"], experiment["name"]
    try:
        if name == "program":
            return load_task(run / PROGRAMS / pair_key(settings))
        if name == "counter":
            return Counter(
                settings["letters"],
                settings["length"],
                operand_pt=settings["operand_pt"],
                operand_ft=settings["operand_ft"],
                q=settings["q"],
            )
        if name == "max-identifier":
            ranks = settings["rank_pt"], settings["rank_ft"]
            return MaxIdentifier(settings["letters"], settings["length"], *ranks, settings["q"])
        operands = settings["operand_pt"], settings["operand_ft"]
        family = "C" if FAMILIES[name] == "C" else "I"
        asked = settings["q"], settings["task_token"], settings["answer_grid"]
        return OperandTask(layout_of(model), family, *operands, *asked)
    except KeyError as error:
        raise InputError("run", name, "a run of an experiment of ours", f"its files lack {error}") from error


def words(experiment: dict[str, Any], model: dict[str, Any]) -> tuple[list[str], int]:
    """A capability's vocabulary as text, and the position at which it gives its answer."""
    if learned(experiment):
        layout = layout_of(model)
        return list(layout.vocabulary), layout.answer_position
    return [str(token) for token in model["metadata"]["vocabulary"]], model["metadata"]["answer_position"]


def task_tokens(experiment: dict[str, Any], model: dict[str, Any]) -> list[str]:
    """The task tokens that ask a learned capability for the run's family, the fine-tuned one first."""
    family, tuned = FAMILIES[experiment["name"]], experiment["fields"]["task_token"]
    names = [token.name for token in layout_of(model).task_tokens if token.family == family]
    return sorted(names, key=lambda name: name != (tuned or names[0]))


def answer_word(answer: Any) -> str:
    """An answer as a reader knows it: learned capabilities answer 3 with a token "=3"."""
    text = str(answer)
    return text[1:] if len(text) > 1 and text[0] == "=" else text


def answers(experiment: dict[str, Any], model: dict[str, Any]) -> list[str]:
    """A capability's classes as text."""
    if learned(experiment):
        return list(map(answer_word, layout_of(model).vocabulary))
    return [str(value) for value in model["metadata"]["classes"]]


def roles(experiment: dict[str, Any], model: dict[str, Any], tokens: list[str], run: Path) -> list[str]:
    """Which tokens of a text O_PT's answer hangs on ("pt"), which O_FT's ("ft"), and which neither ("")."""
    if experiment["name"] == "program":  # what answers hang on, only the programs know
        return [""] * len(tokens)
    task = stored_task(experiment, model, run)
    assert isinstance(task, MarkedTask)
    known = [str(token) for token in task.vocabulary]
    first = 1  # BOS or SOS stands in front of what the task drew
    own = [known.index(token) if token in known else -1 for token in tokens[first:]]
    end = next((i for i, token in enumerate(own) if token < 0), len(own))
    marks = task.marks(torch.tensor(own[:end], dtype=torch.long)).tolist()
    found = ["pt" if pt else "ft" if ft else "" for pt, ft in marks]
    return [""] * first + found + [""] * (len(own) - end)


def label_histograms(experiment: dict[str, Any], model: dict[str, Any], run: Path) -> dict[str, Any]:
    """How often each answer is right for O_PT and O_FT in fine-tuning data without and with the correlation.

    Returns:
        ``answers`` (as text, those that occur), ``shares`` by operand and C_Tr ("0", "1"), and
        ``distance`` by operand: total variation between the two, in [0, 1].
    """
    task = stored_task(experiment, model, run)
    keys = torch.tensor([random.step_key(random.stream_key(task.name, 0, "report/labels"), 0)]).expand(2)
    drawn = task.draw(keys, Mixtures([fine_tuning(0.0), fine_tuning(1.0)]), HISTOGRAM_SAMPLES).results
    size = len(task.answers)
    counts = torch.stack([torch.bincount(r, minlength=size) for r in drawn.mT.flatten(0, 1)])
    shares = counts.unflatten(0, (2, 2)).double() / HISTOGRAM_SAMPLES  # C_Tr, operand, answer
    seen = shares.sum((0, 1)).nonzero().flatten().tolist()
    distance = (shares[1] - shares[0]).abs().sum(-1) / 2
    return {
        "answers": [answer_word(task.answers[i]) for i in seen],
        "shares": {
            o: {c: shares[i, j, seen].tolist() for i, c in enumerate(("0", "1"))}
            for j, o in enumerate(("pt", "ft"))
        },
        "distance": {o: float(distance[j]) for j, o in enumerate(("pt", "ft"))},
    }
