"""Before any work: look at what goes in, refuse what cannot be used, and say what it will cost."""

from pathlib import Path

import torch

from veneer.experiments.environment import environment
from veneer.experiments.layers.settings import QUERIES_AND_VALUES, Layers
from veneer.experiments.layers.store import LayersRun
from veneer.experiments.layers.work import source_of
from veneer.experiments.trial_folder import Prepared, begin
from veneer.language.attacks import duplicate
from veneer.language.encoding import encode_questions
from veneer.language.training import adapt
from veneer.models.files import checksum
from veneer.models.loading import check_memory, check_source, hashes_by_name, load_model, load_tokenizer


def prepare(settings: Layers, out: Path, device: torch.device, jobs: int) -> Prepared[LayersRun]:
    """Check all that goes in, and open the folder; nothing is written before all was looked at.

    Raises:
        InputError: a model, data or an option that cannot be used, or too little memory.
    """
    LayersRun.check(out, settings)
    looked = LayersRun(out, settings)
    lessons, source = looked.lessons, source_of(looked)
    cost = check_source(source)
    parameters = cost.parameters if cost is not None else 0
    # The base, a copy, its gradients and two moments.
    check_memory(jobs * 4 * parameters * 6, f"{jobs} job(s) of this run", device.type)
    tokenizer = load_tokenizer(source)
    _check_model(source, settings)
    encode_questions(tokenizer, [own.question for task in lessons.tasks for own in lessons.asked(task, 1)])
    data = {} if settings.data is None else {settings.data: checksum(Path(settings.data))}
    seen, unseen = len(lessons.seen), len(lessons.tasks) - len(lessons.seen)
    told = [
        f"base: {source}",
        f"{parameters / 1e6:,.2f} M parameters; {seen} tasks for all, {unseen} held out; "
        f"{len(looked.trials())} trials, {jobs} at a time",
    ]
    models = {"base": hashes_by_name(source)}
    inputs = {"models": models, "data": data, "environment": environment(device)}
    return begin(LayersRun, out, settings, inputs, told)


def _check_model(source: str, settings: Layers) -> None:
    """Refuse a model whose layers cannot be seen, or that LoRA cannot go into."""
    model = load_model(source)
    model.places  # noqa: B018 - refuses a family whose insides are not known
    if settings.method == "lora":
        adapt(duplicate(model), settings.rank, 0, QUERIES_AND_VALUES)
