"""The tables that each analysis makes of a group of models: its settings, and the function that computes it.

The functions are those of ``analysis``; ``veneer.experiments.analyse`` puts a run's models into groups.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import polars as pl

from veneer.analysis.attention import attention_distance, operand_shares, sorting
from veneer.analysis.grafting import Grafting, directions, graft, movement
from veneer.analysis.hidden import hidden_keys
from veneer.analysis.probing import ProbeSettings, probe
from veneer.analysis.pruning import Pruning, prune
from veneer.analysis.search import Search, Sought, search
from veneer.analysis.surgery import Layout
from veneer.analysis.texts import draw
from veneer.finetune.fleet import EVALUATED, evaluate, evaluation_sets
from veneer.models.transformer import Transformer
from veneer.pcfg.operand_task import OperandTask
from veneer.tasks.encoding import Encoding, Task
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import OPERANDS, pretraining

Tables = dict[str, pl.DataFrame]
SORTED_TEXTS, JAILBREAK_TEXTS = 256, 100
PRUNING = Pruning(units=("weight",), draws=2, samples=80)
SEARCH = Search()
LEARNED_SEARCH = Search(
    unit="neuron",
    scored=150,
    moved=50,
    glance=16,
    choosing=32,
    finalists=8,
    confirming=96,
    most=15,
    samples=160,
)
GRAFTING = Grafting(singles=10, samples=80)
# Written models are pruned by weights, learned ones by neurons (App. D), which are larger: fewer tries keep
# a model at some ten seconds.
LEARNED_PRUNING = Pruning(ks=(1, 5, 10, 15, 20, 50, 100), units=("neuron",), draws=1, samples=80)
LEARNED_GRAFTING = Grafting(directions=("back",), singles=0, ks=(10, 100, 200), samples=80)
PROBES = ProbeSettings()


@dataclass(frozen=True)
class Group:
    """Models that are analysed together.

    Attributes:
        keys: the identifying columns of each.
        model: the models, a fleet.
        before: the models as fine-tuning found them.
        task: what they are asked.
        third: the same for an operand that they never had, if there is one.
        encoding: how they read it.
        labels: names of the residual directions (compiled models).
        reference: the capability without noise.
    """

    keys: list[dict[str, Any]]
    model: Transformer
    before: Transformer
    task: Task
    third: Task | None
    encoding: Encoding
    labels: tuple[str, ...]
    reference: Transformer


def _pruning(group: Group) -> Tables:
    settings, widely = (PRUNING, SEARCH) if group.labels else (LEARNED_PRUNING, LEARNED_SEARCH)
    most = len(Layout.of(group.model).neurons)  # a program of the user's may be compiled to a few dozen
    settings = replace(settings, ks=tuple(k for k in settings.ks if k <= most))
    found = [prune(group.model, group.task, group.encoding, settings, group.labels)]
    tasks: list[tuple[Task | None, Sought]] = [(group.task, "old"), (group.third, "other")]
    for task, sought in tasks:
        if task is not None:
            models = group.before, group.model
            found.append(search(*models, task, group.encoding, widely, group.labels, sought))
    return {
        "pruning": pl.concat([part.accuracy for part in found]),
        "pruned": pl.concat([part.pruned for part in found]),
        "classes": pl.concat([part.classes for part in found]),
    }


def _grafting(group: Group) -> Tables:
    settings = GRAFTING if group.labels else LEARNED_GRAFTING
    tables = {"grafting": graft(group.before, group.model, group.task, group.encoding, settings)}
    compiled = bool(group.labels)
    tables["movement"] = movement(group.before, group.model, group.reference if compiled else None)
    if compiled:
        tables["directions"] = directions(group.before, group.model, group.reference, group.labels)
    return tables


def _probes(group: Group) -> Tables:
    return {"probes": probe(group.model, group.task, group.encoding, PROBES)}


def _attention(group: Group) -> Tables:
    model, task, encoding = group.model, group.task, group.encoding
    tables = {
        "attention": operand_shares(model, task, encoding).table(),
        "attention_hidden": hidden_keys(model, task, encoding),
    }
    if isinstance(task, MaxIdentifier):
        device = model.token_embedding.device
        tokens = draw(task, encoding, pretraining(), SORTED_TEXTS, device, "analyse/sorting").tokens[0]
        sorts = sorting(model, task, encoding, tokens)
        moved = attention_distance(group.before, model, tokens)
        places = list(product(*map(range, sorts.shape)))
        tables["attention_sorting"] = pl.DataFrame(
            [(*place, float(sorts[place]), float(moved[place])) for place in places],
            schema=["member", "block", "head", "sorting", "distance"],
            orient="row",
        )
    return tables


def task_tokens(task: Task) -> list[str]:
    """The task tokens that ask for a task's family."""
    if not isinstance(task, OperandTask):
        return []
    return [token.name for token in task.layout.task_tokens if token.family == task.family]


def _jailbreak(group: Group) -> Tables:
    """Accuracy through each task token, one of which was fine-tuned (App. E.2)."""
    assert isinstance(group.task, OperandTask)
    device, rows = group.model.token_embedding.device, []
    for token in task_tokens(group.task):
        asked = replace(group.task, task_token=token)
        sets = evaluation_sets(asked, group.encoding, JAILBREAK_TEXTS, device)
        right, _ = evaluate(group.model, sets, group.encoding.answer)
        for member, kind, operand in product(*map(range, right.shape)):
            place = (token, EVALUATED[kind], OPERANDS[operand])
            rows.append((member, *place, float(right[member, kind, operand])))
    columns = ["member", "token", "texts", "operand", "accuracy"]
    return {"jailbreak": pl.DataFrame(rows, schema=columns, orient="row")}


PER_MODEL: dict[str, Callable[[Group], Tables]] = {
    "pruning": _pruning,
    "grafting": _grafting,
    "probes": _probes,
    "attention": _attention,
    "jailbreak": _jailbreak,
}
"""The analyses that look into models, by name; each gives its own table and those that go with it."""
