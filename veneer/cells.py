"""From an experiment to what trains: the capability, the task, how the one reads the other, the cells."""

import hashlib
from dataclasses import dataclass

from compiled.capabilities import counter, max_identifier
from compiled.capability import CompiledCapability
from compiled.exactness import add_noise
from finetune.cell import Cell, Origin, Stage
from finetune.fleet import Evaluation
from finetune.recipe import Recipe
from finetune.trainer import evaluation_steps
from models.transformer import Transformer
from tasks.counter import Counter
from tasks.encoding import Encoding, Task
from tasks.errors import InputError
from tasks.max_identifier import MaxIdentifier
from tasks.mixture import fine_tuning, pretraining
from veneer.experiments import CompiledExperiment, CounterExperiment, MaxIdentifierExperiment, validate


@dataclass(frozen=True)
class Prepared:
    """An experiment ready to run.

    Attributes:
        task: what is asked.
        capability: the written capability, without noise.
        encoding: how it reads the task.
        noise: standard deviation of the noise that every seed adds.
        cells: everything to train, parents before children.
    """

    task: Task
    capability: CompiledCapability
    encoding: Encoding
    noise: float
    cells: list[Cell]

    def start(self, origin: Origin) -> Transformer:
        """The weights a chain of cells starts from."""
        return add_noise(self.capability.model, origin.noise, [origin.seed])


def task_of(experiment: CompiledExperiment) -> Task:
    """The task an experiment asks.

    Raises:
        InputError: an operand, rank, length or q that does not exist.
    """
    match experiment:
        case CounterExperiment(letters=letters, length=length, q=q):
            return Counter(
                letters, length, operand_pt=experiment.operand_pt, operand_ft=experiment.operand_ft, q=q
            )
        case MaxIdentifierExperiment(letters=letters, length=length, q=q):
            return MaxIdentifier(letters, length, experiment.rank_pt, experiment.rank_ft, q)
    raise InputError("experiment", experiment.name, "counter or max-identifier")


def capability_of(experiment: CompiledExperiment) -> CompiledCapability:
    """The written capability an experiment starts from, from the cache where it is there."""
    common = {
        "length": experiment.length,
        "mlp_exactness": experiment.exactness,
        "literal": experiment.literal,
    }
    match experiment:
        case CounterExperiment():
            return counter(experiment.operand_pt, experiment.letters, **common)
        case MaxIdentifierExperiment():
            return max_identifier(experiment.rank_pt, experiment.letters, **common)
    raise InputError("experiment", experiment.name, "counter or max-identifier")


def prepare(experiment: CompiledExperiment) -> Prepared:
    """Everything that can be refused is checked here, before any training.

    Raises:
        InputError: a field that cannot be used.
    """
    validate(experiment)
    stages = _stages(experiment)
    task = task_of(experiment)
    capability = capability_of(experiment)
    assert capability.classes is not None and capability.answer_position is not None
    encoding = Encoding.between(
        task,
        capability.vocabulary,
        capability.classes,
        capability.bos,
        capability.pad,
        capability.answer_position,
    )
    assert capability.calibration is not None
    noise = capability.calibration.noise_std if experiment.noise is None else experiment.noise
    cells = []
    for seed in range(experiment.seeds):
        origin = Origin(_fingerprint(capability.model), noise, seed)
        for fine_tune, revivals in stages:
            first = Cell(origin, task, fine_tune, _evaluation(experiment, fine_tune), seed)
            cells.append(first)
            cells += [Cell(first, task, s, _evaluation(experiment, s), seed) for s in revivals]
    return Prepared(task, capability, encoding, noise, cells)


def _fingerprint(model: Transformer) -> str:
    """Hash of the weights, so that cells of another compilation are other cells."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _stages(experiment: CompiledExperiment) -> list[tuple[Stage, list[Stage]]]:
    """Each fine-tuning with the reFTs that follow it."""

    def recipe(rate: float, iterations: int) -> Recipe:
        return Recipe(
            "sgd",
            rate,
            iterations,
            warmup=round(experiment.warmup * iterations),
            batch=experiment.batch,
            clip=experiment.clip,
            momentum=experiment.momentum,
        )

    revivals = [
        Stage("reft", pretraining(), recipe(rate, experiment.reft_iterations))
        for rate in experiment.reft_rates
    ]
    return [
        (
            Stage("fine-tune", fine_tuning(c), recipe(rate, experiment.iterations)),
            [s for s in revivals if s.recipe.learning_rate <= rate],
        )
        for rate in experiment.learning_rates
        for c in experiment.c_tr
    ]


def _evaluation(experiment: CompiledExperiment, stage: Stage) -> Evaluation:
    return Evaluation(experiment.evaluation_samples, evaluation_steps(stage.recipe.iterations))
