"""From an experiment to what trains: its capabilities, its task, and its cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, Protocol

from veneer.compiled.capabilities import counter, max_identifier
from veneer.compiled.capability import CompiledCapability
from veneer.compiled.exactness import add_noise
from veneer.compiled.pairs import Pair, make_pair
from veneer.compiled.tokens import read_vocabulary
from veneer.experiments.named import (
    THIRD,
    CompiledExperiment,
    CounterExperiment,
    Experiment,
    LearnedExperiment,
    MaxIdentifierExperiment,
    ProgramExperiment,
    reft_rates_after,
)
from veneer.experiments.origins import (
    CAPABILITY,
    CONSTRUCTIONS,
    SCRATCH,
    Learned,
    Source,
    Written,
    origin,
    pretrainings,
    start,
)
from veneer.experiments.valid import validate
from veneer.finetune.cell import Cell, Origin, Stage, permanent
from veneer.finetune.fleet import Evaluation
from veneer.finetune.method import FullFineTuning, Method
from veneer.finetune.methods import load_method
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import evaluation_steps
from veneer.models.transformer import Transformer
from veneer.pcfg.operand_task import OperandTask
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding, Task
from veneer.tasks.errors import InputError
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import Mixture, fine_tuning, mixed, pretraining, rand_ft
from veneer.tasks.pair import PairTask


@dataclass(frozen=True)
class Prepared:
    """Experiments ready to run.

    Attributes:
        sources: the capabilities, by key.
        cells: everything to train, parents before children.
    """

    sources: dict[str, Source]
    cells: list[Cell]

    def start(self, origin: Origin) -> Transformer:
        """The weights a chain of cells starts from."""
        return start(self.sources[origin.capability], origin, self._tasks[origin.capability])

    def starts(self, origins: Sequence[Origin]) -> Transformer:
        """The same of many, as a fleet in this order: the noise of those that have it is drawn at once."""
        fleets = []
        for (capability, begin), alike in groupby(
            origins, key=lambda origin: (origin.capability, origin.start)
        ):
            group, source = list(alike), self.sources[capability]
            if begin == CAPABILITY and any(origin.noise for origin in group):
                copies = source.model.select([0] * len(group))
                noise, seeds = zip(*((origin.noise, origin.seed) for origin in group), strict=True)
                fleets.append(add_noise(copies, noise, seeds))
            else:
                fleets += [self.start(origin) for origin in group]
        return Transformer.gather(fleets)

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        """A task of each capability, whose natural texts constructed models are fitted to."""
        return {cell.origin.capability: cell.task for cell in reversed(self.cells)}

    def encoding(self, cell: Cell) -> Encoding:
        """How a cell's model reads its task."""
        return self.sources[cell.origin.capability].encoding(cell.task)


class UsersCode(Protocol):
    """Where methods and programs of the user's own come from."""

    def method(self, spec: str) -> Method: ...

    def pair(self, experiment: ProgramExperiment) -> tuple[CompiledCapability, PairTask]: ...


class FromFiles:
    """From their files, which are run; a run that is only read gives them itself (``Run``)."""

    def method(self, spec: str) -> Method:
        """See ``load_method``."""
        return load_method(spec)

    def pair(self, experiment: ProgramExperiment) -> tuple[CompiledCapability, PairTask]:
        """See ``make_pair``."""
        return make_pair(_pair(experiment))


def _pair(experiment: ProgramExperiment) -> Pair:
    """The two programs that an experiment asks for."""
    return Pair(
        experiment.program_pt,
        experiment.program_ft,
        tuple(read_vocabulary(experiment.vocabulary, experiment.length)),
        experiment.length,
        experiment.answer_position,
        experiment.causal,
        experiment.inputs,
        experiment.agree,
        experiment.q,
        experiment.exactness,
        experiment.texts,
    )


FILES = FromFiles()


class Read:
    """What experiments have read so far: a grid of a thousand points reads each capability once.

    Args:
        code: where methods and programs of the user's come from.
        slow: called before a capability is read or compiled, which may take a while.
    """

    def __init__(self, code: UsersCode = FILES, slow: Callable[[], None] = lambda: None) -> None:
        self._code, self._slow, self._found = code, slow, dict[str, Any]()

    def method(self, spec: str) -> Method:
        """See ``load_method``."""
        return self._once(f"method {spec}", lambda: self._code.method(spec))

    def pair(self, experiment: ProgramExperiment) -> tuple[CompiledCapability, PairTask]:
        """See ``make_pair``."""
        self._slow()
        return self._once(repr(_pair(experiment)), lambda: self._code.pair(experiment))

    def sources(self, experiment: Experiment) -> Sequence[Source]:
        """The capabilities that an experiment starts from."""
        self._slow()
        return self._once(_sources_asked(experiment), lambda: _sources(experiment))

    def _once(self, name: str, read: Callable[[], Any]) -> Any:
        if name not in self._found:
            self._found[name] = read()
        return self._found[name]


def _sources_asked(experiment: Experiment) -> str:
    """What an experiment's capabilities depend on."""
    names = (
        ("pretrained", "seeds", "first_seed")
        if isinstance(experiment, LearnedExperiment)
        else ("operand_pt", "rank_pt", "letters", "length", "exactness", "literal", "noise", "own_samples")
    )
    return repr([experiment.name, *(getattr(experiment, name, None) for name in names)])


def prepare(experiment: Experiment, code: UsersCode = FILES, read: Read | None = None) -> Prepared:
    """Everything that can be refused is checked here, before any training.

    Args:
        experiment: what is asked for.
        code: where methods and programs of the user's come from; of a run that is only read, the run.
        read: what other experiments of a grid have read already, by the same code; none starts anew.

    Raises:
        InputError: a field that cannot be used.
    """
    read = read or Read(code)
    validate(experiment)
    chains = _chains(experiment, read.method(experiment.method))
    if isinstance(experiment, ProgramExperiment):
        capability, own = read.pair(experiment)
        source = _written(experiment, capability)
        cells = _cells(experiment, source, own, chains)
        return Prepared({source.key: source}, list(cells.values()))
    if isinstance(experiment, CompiledExperiment):
        _task(experiment, None)  # before anything is compiled
    sources = read.sources(experiment)
    cells: dict[str, Cell] = {}
    for source in sources:
        task = _task(experiment, source)
        source.encoding(task)  # refuses what the model does not know
        cells.update(_cells(experiment, source, task, chains))
    return Prepared({source.key: source for source in sources}, list(cells.values()))


@permanent()
def _cells(
    experiment: Experiment, source: Source, task: Task, chains: list[tuple[str, list[Stage]]]
) -> dict[str, Cell]:
    """Every seed's cells by id, parents before children."""
    third = third_task(task, source) if experiment.third_operand else None
    measured = [
        (begins, [(stage, _evaluation(experiment, stage)) for stage in stages]) for begins, stages in chains
    ]
    cells: list[Cell] = []
    for seed in experiment.seed_numbers if source.only is None else (source.only,):
        for begins, stages in measured:
            start: Origin | Cell = origin(source, seed, begins)
            for stage, evaluation in stages:
                asked = third if stage.name == THIRD else task
                if asked is None:
                    continue
                cells.append(Cell(start, asked, stage, evaluation, seed))
                if isinstance(start, Origin):
                    start = cells[-1]
    return {cell.id: cell for cell in cells}


def third_task(task: Task, source: Source) -> Task | None:
    """The same question for an operand that a capability never had; None where it has had them all.

    A Counter's letters are alike but for O_PT and O_FT: the first other one is taken. A Max-identifier's
    third rank is as far from O_PT as O_FT is, on its other side. A pretrained model has not had an
    operand that its prior gives no weight.
    """
    match task:
        case Counter(letters=letters, operand_pt=pt, operand_ft=ft):
            return _asking(task, operand_pt=next(x for x in letters if x not in (pt, ft)))
        case MaxIdentifier(rank_pt=pt, rank_ft=ft, length=length):
            third = 2 * pt - ft
            return _asking(task, rank_pt=third, rank_ft=pt) if 1 <= third <= length else None
        case OperandTask(layout=layout, operand_pt=pt, operand_ft=ft):
            assert isinstance(source, Learned)
            prior = dict(zip(layout.grammar.terminals, source.capability.operand_prior, strict=True))
            new = [x for x, share in prior.items() if share == 0 and x not in (pt, ft)]
            return replace(task, operand_pt=new[0]) if new else None
    return None


@lru_cache(maxsize=64)
def _asking(task: Any, **operands: Any) -> Any:
    """A task for other operands; tasks of a grid's points are often the same, and have tables to work out."""
    return replace(task, **operands)


@lru_cache(maxsize=64)
def _made(kind: Callable[..., Task], *values: Any) -> Task:
    """A task of these fields."""
    return kind(*values)


def _sources(experiment: Experiment) -> Sequence[Source]:
    """The capabilities an experiment starts from, written ones from the cache where they are there."""
    if isinstance(experiment, LearnedExperiment):
        found = [pretrainings(word, experiment.seed_numbers) for word in experiment.pretrained]
        words: dict[str, str] = {}
        for word, each in zip(experiment.pretrained, found, strict=True):
            other = words.setdefault(each[0].name, word)
            if other != word:
                problem = f"in tables it has the name of {other!r}: {each[0].name}"
                raise InputError("pretrained", word, "models of different names", problem)
        return [source for each in found for source in each]
    assert isinstance(experiment, CompiledExperiment)
    common = {
        "length": experiment.length,
        "mlp_exactness": experiment.exactness,
        "literal": experiment.literal,
    }
    match experiment:
        case CounterExperiment():
            capability = counter(experiment.operand_pt, experiment.letters, **common)
        case MaxIdentifierExperiment():
            capability = max_identifier(experiment.rank_pt, experiment.letters, **common)
        case _:
            raise InputError("experiment", experiment.name, "counter or max-identifier")
    return [_written(experiment, capability)]


def _written(experiment: CompiledExperiment, capability: CompiledCapability) -> Written:
    """A compiled program with the noise that an experiment asks for."""
    assert capability.calibration is not None
    if experiment.noise is not None:  # asked for, so taken as it is
        return Written(capability, experiment.noise)
    varied = experiment.own_samples and not experiment.literal
    return Written(capability, capability.calibration.noise_std, varied)


def _task(experiment: Experiment, source: Source | None) -> Task:
    """The task an experiment asks of a capability.

    Raises:
        InputError: an operand, rank, length or q that does not exist.
    """
    match experiment:
        case CounterExperiment(letters=letters, length=length, q=q):
            return _made(Counter, letters, length, None, experiment.operand_pt, experiment.operand_ft, q)
        case MaxIdentifierExperiment(letters=letters, length=length, q=q):
            return _made(MaxIdentifier, letters, length, experiment.rank_pt, experiment.rank_ft, q)
        case LearnedExperiment(operand_pt=pt, operand_ft=ft, q=q):
            assert isinstance(source, Learned)
            layout = source.capability.layout
            asked = q, experiment.task_token, experiment.answer_grid
            return OperandTask(layout, experiment.family, pt, ft, *asked)  # pyright: ignore[reportArgumentType]
    raise InputError("experiment", experiment.name, "an experiment of veneer list")


def _chains(experiment: Experiment, method: Method | None = None) -> list[tuple[str, list[Stage]]]:
    """What each seed goes through: where it begins, a stage, and the stages that follow that one.

    Where a chain begins is an ``Origin.start``. Besides fine-tuning and reFT there are the paper's
    controls: Scr. (from scratch on O_PT) and Scr. + FT (from scratch on O_FT, then on O_PT), with
    reFT's own stages (§5.1, App. D). And there is ours: what reFT does, with an operand the model never had.
    """
    recipes = {rate: _recipe(experiment, rate, experiment.reft_iterations) for rate in experiment.reft_rates}
    revivals, thirds = (
        [Stage(name, pretraining(), recipe) for recipe in recipes.values()] for name in ("reft", THIRD)
    )
    if not experiment.third_operand:
        thirds = []
    chains = []
    for rate in experiment.learning_rates:
        for c in experiment.c_tr:
            recipe = _recipe(experiment, rate, experiment.iterations)
            first = Stage("fine-tune", _mixture(experiment, c), recipe, method or FullFineTuning())
            allowed = reft_rates_after(vars(experiment), rate)
            later = [stage for stage in (*revivals, *thirds) if stage.recipe.learning_rate in allowed]
            chains.append(("capability", [first, *later]))
    if experiment.controls and revivals:
        rate = experiment.control_rate or max(experiment.learning_rates)
        recipe = _recipe(experiment, rate, experiment.iterations)
        chains.append((SCRATCH, [Stage("fine-tune", fine_tuning(0.0), recipe, FullFineTuning()), *revivals]))
        chains += [(SCRATCH, [stage]) for stage in revivals]
    if experiment.constructed:
        chains += [(name, [stage]) for name in CONSTRUCTIONS for stage in (*revivals, *thirds)]
    return chains


def _mixture(experiment: Experiment, c: float) -> Mixture:
    """Fine-tuning data."""
    if isinstance(experiment, LearnedExperiment) and experiment.rand_ft:
        return rand_ft(c, experiment.rand_ft)
    return mixed(c, experiment.share_pretraining) if experiment.share_pretraining else fine_tuning(c)


def _recipe(experiment: Experiment, rate: float, iterations: int) -> Recipe:
    compiled = isinstance(experiment, CompiledExperiment)
    return Recipe(
        "sgd" if compiled else "adamw",
        rate,
        iterations,
        warmup=round(experiment.warmup * iterations),
        batch=experiment.batch,
        clip=experiment.clip,
        momentum=experiment.momentum if compiled else 0.9,
        precision=experiment.precision,
        compile=experiment.compile,
    )


def _evaluation(experiment: Experiment, stage: Stage) -> Evaluation:
    steps = evaluation_steps(stage.recipe.iterations)
    return Evaluation(experiment.evaluation_samples, steps, experiment.own_samples)
