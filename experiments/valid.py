"""Which experiments cannot be run: values that no deeper value checks, or checks by another name.

Refused before anything is made ready or written; what a task or a recipe cannot use, it says itself.
"""

from veneer.experiments.named import (
    CompiledExperiment,
    Experiment,
    LearnedExperiment,
    ProgramExperiment,
)
from veneer.finetune.recipe import check_rate
from veneer.tasks.errors import InputError


def validate(experiment: Experiment) -> None:
    """Check what no deeper value checks, or checks by another name than the field's.

    Raises:
        InputError: an empty list, a duplicate in it, a rate that is no finite number above 0, a count below 1
            or a share outside [0, 1].
    """
    for field in ("learning_rates", "c_tr", "reft_rates"):
        values = getattr(experiment, field)
        if not values and field != "reft_rates":
            raise InputError(field, values, "one value or more")
        if len(set(values)) != len(values):
            raise InputError(field, values, "different values")
        for value in values:
            if field == "c_tr" and not 0 <= value <= 1:
                raise InputError(field, value, "probabilities in [0, 1]")
            if field != "c_tr":
                check_rate(field, value)
    if experiment.seeds < 1:
        raise InputError("seeds", experiment.seeds, "1 or more")
    if not 0 <= experiment.first_seed <= LAST_SEED:
        raise InputError("first_seed", experiment.first_seed, f"0 to {LAST_SEED:,}")
    _validate_sizes(experiment)
    if not 0 <= experiment.warmup <= 1:
        raise InputError("warmup", experiment.warmup, "a share in [0, 1]")
    if not 0 <= experiment.share_pretraining < 1:
        raise InputError("share_pretraining", experiment.share_pretraining, "a share in [0, 1)")
    rate = experiment.control_rate
    if rate is not None and not 0 < rate < float("inf"):
        raise InputError("control_rate", rate, "a finite number above 0, or none")
    if isinstance(experiment, LearnedExperiment):
        _validate_learned(experiment)
    if isinstance(experiment, CompiledExperiment):
        _validate_compiled(experiment)
    if isinstance(experiment, ProgramExperiment):
        _validate_programs(experiment)


LARGEST = {
    "batch": 1_000_000,
    "evaluation_samples": 10_000_000,
    "iterations": 10**9,
    "reft_iterations": 10**9,
}
LAST_SEED = 10**9
MOST_CELLS = 1_000_000
"""What no machine does in a lifetime is refused before anything is made ready."""


def _validate_sizes(experiment: Experiment) -> None:
    for field, most in LARGEST.items():
        if not 1 <= getattr(experiment, field) <= most:
            raise InputError(field, getattr(experiment, field), f"1 to {most:,}")
    settings = len(experiment.learning_rates) * len(experiment.c_tr)
    cells = experiment.seeds * settings * (1 + 2 * len(experiment.reft_rates))
    if cells > MOST_CELLS:
        problem = f"they make some {cells:,} models to train"
        raise InputError("seeds", experiment.seeds, f"at most {MOST_CELLS:,} models in a run", problem)


def _validate_learned(experiment: LearnedExperiment) -> None:
    if not experiment.pretrained or len(set(experiment.pretrained)) != len(experiment.pretrained):
        raise InputError("pretrained", experiment.pretrained, "one or more different models")
    if not 0 <= experiment.rand_ft < 1:
        raise InputError("rand_ft", experiment.rand_ft, "a share in [0, 1)")
    if experiment.rand_ft and experiment.share_pretraining:
        raise InputError("rand_ft", experiment.rand_ft, "0 where share_pretraining is above 0")


def _validate_programs(experiment: ProgramExperiment) -> None:
    for field, flag in (("program_pt", "first word"), ("program_ft", "--to")):
        if not getattr(experiment, field):
            raise InputError(
                field, "", f"FILE.py:FUNCTION as {flag}: veneer run mine.py:old --to mine.py:new"
            )
    if not experiment.vocabulary:
        raise InputError("vocabulary", experiment.vocabulary, "one token or more")
    if experiment.length < 1:
        raise InputError("length", experiment.length, "1 or more tokens")
    where = experiment.answer_position
    if where is not None and not 1 <= where <= experiment.length:
        raise InputError("answer_position", where, f"1 to length = {experiment.length}, or none")
    if not 20 <= experiment.texts <= 1_000_000:
        raise InputError("texts", experiment.texts, "20 to 1,000,000")
    if experiment.q == 0:
        raise InputError("q", 0, "a difference other than 0, or none")


def _validate_compiled(experiment: CompiledExperiment) -> None:
    if experiment.noise is not None and not 0 <= experiment.noise < float("inf"):
        raise InputError("noise", experiment.noise, "a finite number, 0 or more")
    if experiment.exactness is not None and experiment.exactness < 1:
        raise InputError("exactness", experiment.exactness, "1 or more")
    if experiment.literal and (experiment.noise is not None or experiment.exactness is not None):
        raise InputError("literal", True, "only without exactness and noise, which it sets itself")
