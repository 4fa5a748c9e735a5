"""Before any work: look at the models that go in, refuse what cannot be used, and say what it will cost."""

from pathlib import Path

import torch

from veneer.experiments.environment import environment
from veneer.experiments.stories.settings import Stories
from veneer.experiments.stories.store import StoriesRun
from veneer.experiments.stories.work import source_of
from veneer.experiments.trial_folder import Prepared, begin
from veneer.language.encoding import check_tokenizers
from veneer.language.stories.generator import stories
from veneer.language.stories.models import lesson
from veneer.models.loading import (
    check_memory,
    check_source,
    hashes_by_name,
    load_tokenizer,
)
from veneer.tasks.errors import InputError


def prepare(settings: Stories, out: Path, device: torch.device, jobs: int) -> Prepared[StoriesRun]:
    """Check all that goes in, and open the folder; nothing is written before all was looked at.

    Raises:
        InputError: a model or an option that cannot be used, or too little memory.
    """
    StoriesRun.check(out, settings)
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
    hashes = {arm: hashes_by_name(source) for arm, source in sources.items()}
    trials = len(StoriesRun(out, settings).trials())
    told = [f"{arm}: {source}" for arm, source in sources.items()]
    told.append(f"{parameters / 1e6:,.1f} M parameters; {trials} trials, {jobs} at a time")
    inputs = {"models": hashes, "data": {}, "environment": environment(device)}
    return begin(StoriesRun, out, settings, inputs, told)
