"""Before any work: look at the base, refuse what cannot be used, and say what it is and what it will cost."""

from pathlib import Path
from typing import Any

import torch

from veneer.experiments.cddm.prompts import answer_tokens, encoded
from veneer.experiments.cddm.settings import Decisions
from veneer.experiments.cddm.store import DecisionsRun
from veneer.experiments.cddm.work import source_of
from veneer.experiments.environment import environment
from veneer.experiments.trial_folder import Prepared, begin
from veneer.language.cddm import LARGEST, trials
from veneer.models.huggingface import FAMILIES
from veneer.models.loading import (
    check_memory,
    check_source,
    hashes_by_name,
    load_tokenizer,
    model_kind,
)
from veneer.tasks.errors import InputError


def prepare(settings: Decisions, out: Path, device: torch.device, jobs: int) -> Prepared[DecisionsRun]:
    """Check all that goes in, and open the folder; nothing is written before all was looked at.

    Raises:
        InputError: a base or an option that cannot be used, or too little memory.
    """
    DecisionsRun.check(out, settings)
    source = source_of(settings)
    cost = check_source(source)
    parameters = 0 if cost is None else cost.parameters
    # The pretrained model, a copy, its gradients and two moments.
    check_memory(jobs * 4 * parameters * 5, f"{jobs} job(s) of this run", device.type)
    kind = model_kind(source)
    if kind not in FAMILIES:
        problem = "it is not known where this family keeps its heads"
        raise InputError("base", source, f"a model of a family among {', '.join(FAMILIES)}", problem)
    tokenizer = load_tokenizer(source)
    answer_tokens(tokenizer)
    encoded(tokenizer, list(trials(8, templates=settings.templates)))
    told = (
        f"base: {source} ({kind}, {parameters / 1e6:,.1f} M parameters)",
        f"a number of two digits is {_tokens(tokenizer)} in its vocabulary",
        f"{len(settings.trials_of('train'))} trainings of at most {settings.updates:,} updates, "
        f"{len(settings.trials_of('look'))} looks inside, {jobs} at a time",
    )
    inputs = {"models": {"base": hashes_by_name(source)}, "data": {}, "environment": environment(device)}
    return begin(DecisionsRun, out, settings, inputs, told)


def _tokens(tokenizer: Any) -> str:
    """How many tokens a number is, in words."""
    counts = {
        len(tokenizer(f" {number}", add_special_tokens=False)["input_ids"])
        for number in range(10, LARGEST + 1)
    }
    least, most = min(counts), max(counts)
    if least == most:
        return f"{least} token{'s' if least > 1 else ''}"
    return f"{least} to {most} tokens"
