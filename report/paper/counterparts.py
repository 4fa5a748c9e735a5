"""Which figures of Jain et al. 2024 a run has no counterpart of, and the commands that make them."""

from collections.abc import Collection, Iterator

from veneer.experiments.store import Run
from veneer.models.files import read_json
from veneer.report.stored_task import learned, task_tokens

JAILBREAK = "veneer run pcfg-counter --pretrained jailbreak --task-token T_NJ --c-tr 0"


def lacking(run: Run, drawn: Collection[str]) -> list[str]:
    """What is missing for the figures that were not drawn, a sentence each with a command.

    Args:
        run: a run.
        drawn: names of the figures that were (see ``veneer.report.paper.figures.figures``).
    """
    return [
        f"{figures} not drawn: {missing}: {command}" for figures, missing, command in _lacking(run, drawn)
    ]


def _lacking(run: Run, drawn: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Figures, the stage that is missing, and the command that makes it."""
    experiment, path = run.experiment, run.path
    name, fields = experiment["name"], experiment["fields"]
    go_on, look = f"veneer run {name} --out {path}", f"veneer analyse {path} --only"
    if "behaviour" not in drawn:
        yield "Figures 5, 6 (behaviour)", "no fine-tuning is finished", go_on
    if "reft" not in drawn:
        missing, command = "no reFT is finished", go_on
        if not fields["reft_rates"]:
            missing = "this run has no reFT"
            command = f"veneer run {name} (without an empty --reft-rates)"
        yield "Figures 9, 27 (reFT)", missing, command
    for figures, title in (("7, 55", "pruning"), ("8", "probes")):
        if title not in drawn:
            word = "Figures" if "," in figures else "Figure"
            yield f"{word} {figures} ({title})", "not analysed", f"{look} {title}"
    if "attention" not in drawn:
        yield "Figure 10 (attention)", "no fine-tuning of the first seed is finished", go_on
    if "jailbreak" not in drawn:
        ready = learned(experiment) and _several_tokens(run)
        missing = "not analysed" if ready else "it takes a model with several task tokens"
        yield "Figure 24 (jailbreak)", missing, f"{look} jailbreak" if ready else JAILBREAK
    if not fields.get("rand_ft"):
        command = "veneer run pcfg-counter --pretrained M --rand-ft 0.5"
        yield "Figure 28 (reFT after randFT)", "it takes fine-tuning that teaches wrong answers", command
    if name != "max-identifier":
        yield "Figure 44 (attention that sorts)", "it takes another experiment", "veneer run max-identifier"


def _several_tokens(run: Run) -> bool:
    """Whether one of the run's models can be asked through more than one task token."""
    files = sorted((run.path / "capabilities").glob("*/model.json"))
    return any(len(task_tokens(run.experiment, read_json(file))) > 1 for file in files)
