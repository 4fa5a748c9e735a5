"""Before any work: look at the models that go in, refuse what cannot be used, and say what it will cost."""

from dataclasses import dataclass
from pathlib import Path

import torch

from veneer.experiments.environment import environment
from veneer.experiments.stories.settings import Stories
from veneer.experiments.stories.store import StoriesRun
from veneer.experiments.stories.work import source_of
from veneer.language.encoding import check_tokenizers
from veneer.language.stories.generator import stories
from veneer.language.stories.models import lesson
from veneer.models.loading import (
    check_memory,
    check_source,
    load_model,
    load_tokenizer,
    source_hashes,
    weights_hash,
)
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Prepared:
    """A run that can begin.

    Attributes:
        run: its folder.
        fresh: whether the folder was begun now.
        told: what a reader should know first.
    """

    run: StoriesRun
    fresh: bool
    told: tuple[str, ...]


def prepare(settings: Stories, out: Path, device: torch.device, jobs: int) -> Prepared:
    """Check all that goes in, and open the folder; nothing is written before all was looked at.

    Raises:
        InputError: a model or an option that cannot be used, or too little memory.
    """
    StoriesRun.check(out, settings)
    fresh = not (out / StoriesRun.FILE).exists()
    arms = ("present", "never") if settings.controls else ("present",)
    sources = {arm: source_of(settings, arm) for arm in arms}
    costs = [cost for source in sources.values() if (cost := check_source(source)) is not None]
    parameters = max((cost.parameters for cost in costs), default=0)
    # Two models that are kept, a copy, its gradients and two moments.
    check_memory(jobs * 4 * parameters * (len(arms) + 4), f"{jobs} job(s) of this run", device.type)
    tokenizer = load_tokenizer(sources["present"])
    asked = [lesson(record) for record in stories(8, 0, "test")]
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise InputError("present", sources["present"], "a model whose tokenizer knows an end and fills up")
    if settings.controls:
        check_tokenizers(tokenizer, load_tokenizer(sources["never"]), asked, sources["never"])
    hashes = {arm: hashes_of(source) for arm, source in sources.items()}
    run = StoriesRun.open(out, settings)
    try:
        run.record_inputs({"models": hashes, "data": {}, "environment": environment(device)})
    except InputError:
        if fresh:
            run.withdraw()
        raise
    trials = len(run.trials())
    told = [f"{arm}: {source}" for arm, source in sources.items()]
    told.append(f"{parameters / 1e6:,.1f} M parameters; {trials} trials, {jobs} at a time")
    return Prepared(run, fresh, tuple(told))


def hashes_of(source: str) -> dict[str, str]:
    """SHA-256 of a model's files by name; of a model by a hub's name, of its weights."""
    found = source_hashes(source)
    if not found:
        return {"weights": weights_hash(load_model(source))}
    return {Path(file).name: own for file, own in found.items()}
