"""Before any work: look at what goes in, refuse what cannot be used, and say what it will cost."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from veneer.experiments.environment import environment
from veneer.experiments.layers.settings import QUERIES_AND_VALUES, Layers
from veneer.experiments.layers.store import LayersRun
from veneer.experiments.layers.work import source_of
from veneer.experiments.stories.prepare import hashes_of
from veneer.language.attacks import duplicate
from veneer.language.encoding import encode_questions
from veneer.language.training import adapt
from veneer.models.loading import check_memory, check_source, load_model, load_tokenizer
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Prepared:
    """A run that can begin.

    Attributes:
        run: its folder.
        fresh: whether the folder was begun now.
        told: what a reader should know first.
    """

    run: LayersRun
    fresh: bool
    told: tuple[str, ...]


def prepare(settings: Layers, out: Path, device: torch.device, jobs: int) -> Prepared:
    """Check all that goes in, and open the folder; nothing is written before all was looked at.

    Raises:
        InputError: a model, data or an option that cannot be used, or too little memory.
    """
    LayersRun.check(out, settings)
    fresh = not (out / LayersRun.FILE).exists()
    looked = LayersRun(out, settings)
    lessons, source = looked.lessons, source_of(looked)
    cost = check_source(source)
    parameters = cost.parameters if cost is not None else 0
    # The base, a copy, its gradients and two moments.
    check_memory(jobs * 4 * parameters * 6, f"{jobs} job(s) of this run", device.type)
    tokenizer = load_tokenizer(source)
    _check_model(source, settings)
    encode_questions(tokenizer, [own.question for task in lessons.tasks for own in lessons.asked(task, 1)])
    data = {} if settings.data is None else {settings.data: _hash(Path(settings.data))}
    run = LayersRun.open(out, settings)
    try:
        models = {"base": hashes_of(source)}
        run.record_inputs({"models": models, "data": data, "environment": environment(device)})
    except InputError:
        if fresh:
            run.withdraw()
        raise
    seen, unseen = len(lessons.seen), len(lessons.tasks) - len(lessons.seen)
    told = [
        f"base: {source}",
        f"{parameters / 1e6:,.2f} M parameters; {seen} tasks for all, {unseen} held out; "
        f"{len(run.trials())} trials, {jobs} at a time",
    ]
    return Prepared(run, fresh, tuple(told))


def _check_model(source: str, settings: Layers) -> None:
    """Refuse a model whose layers cannot be seen, or that LoRA cannot go into."""
    model = load_model(source)
    model.places  # noqa: B018 - refuses a family whose insides are not known
    if settings.method == "lora":
        adapt(duplicate(model), settings.rank, 0, QUERIES_AND_VALUES)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
