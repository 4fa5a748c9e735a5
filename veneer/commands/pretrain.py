"""``veneer pretrain``: pretrain GPTs on a grammar's strings, or a text model on stories or plain text."""

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from veneer.commands.manners import runs_folder
from veneer.commands.options import (
    BasePretrainOptions,
    PretrainOptions,
    StoryPretrainOptions,
    ask,
    known,
    preset_of,
)
from veneer.experiments.named import PRETRAINING, PcfgPretraining

if TYPE_CHECKING:
    from veneer.experiments.pretrain import PretrainingRun
    from veneer.experiments.text_pretraining import TextPretraining


def command(words: list[str]) -> None:
    """``veneer pretrain``."""
    if words[:1] and words[0] in TEXTS:
        TEXTS[words[0]](words[1:])
        return
    if words and not words[0].startswith("-"):
        words = [known("task", words[0], ["pcfg", *TEXTS]), *words[1:]]
    if words[:1] != ["pcfg"]:
        print("usage: veneer pretrain pcfg [--preset quick|paper] [options]; --help lists them")
        print("       veneer pretrain stories [--preset quick|standard|paper] [options]")
        print("       veneer pretrain layers [options]")
        if words[:1] not in (["-h"], ["--help"]):
            sys.exit(2)
        return
    preset = preset_of(words[1:], ("quick", "paper"))
    about = "Pretrain GPTs on five task families over strings of a grammar."
    start = (PretrainOptions(preset), PRETRAINING[preset])
    options, experiment = ask(*start, words[1:], "veneer pretrain pcfg", about)
    out = options.out or runs_folder() / f"pcfg-{preset}"
    pretrain(replace(options, out=out), experiment, f"veneer pretrain {' '.join(words)}")


def pretrain(options: PretrainOptions, experiment: PcfgPretraining, command: str) -> None:
    """``veneer pretrain pcfg``: train what is not finished, then show what was learned.

    Raises:
        InputError: an option or field that cannot be used; nothing has been written then.
    """
    from veneer.commands.progress import LiveProgress, following
    from veneer.commands.screen import Table, console, styled
    from veneer.experiments.begin import device_of
    from veneer.experiments.pretrain import PretrainingRun
    from veneer.finetune.trainer import check_device

    assert options.out is not None
    device = device_of(options.device)
    check_device(device.type, experiment.precision, experiment.compile)
    run = PretrainingRun(experiment, options.out, command)
    run.check_memory(device)
    members, began = len(run.names), time.monotonic()
    about = (
        f" ({options.preset}) on {device.type}: {members} model{'s' if members != 1 else ''}, "
        f"{experiment.iterations:,} updates each; results in {options.out}"
    )
    console.print(styled(("pretraining", "bold"), about))
    if not run.finished:
        with LiveProgress(members * experiment.iterations) as progress:
            last = 0

            def advance(step: int) -> None:
                nonlocal last
                progress.updates((step - last) * members)
                last = step

            run.execute(device, advance)
    final = run.final()
    table = Table(title="Right answers after pretraining, in percent")
    for name in final.columns:
        table.add_column(name, justify="left" if name == "question" else "right")
    for question, *values in final.iter_rows():
        table.add_row(question, *(f"{100 * value:.1f}" for value in values))
    console.print(table)
    console.print(f"{time.monotonic() - began:.0f} s", style="dim")
    following(_fine_tuning(run))


def _fine_tuning(run: "PretrainingRun") -> str:
    """The command that fine-tunes what was pretrained; several pretrainings of a prior are a run's seeds."""
    from veneer.commands.progress import quoted
    from veneer.experiments.model_names import SEED

    asked = run.experiment
    if asked.seeds == 1 and not asked.first_seed:
        return f"veneer run pcfg-counter --pretrained {quoted(run.out)}/*.safetensors"
    steps = sorted({*asked.keep, asked.iterations})
    words = [quoted(run.checkpoint(prior, SEED, step)) for prior in asked.priors for step in steps]
    first = f" --first-seed {asked.first_seed}" if asked.first_seed else ""
    return f"veneer run pcfg-counter --seeds {asked.seeds}{first} --pretrained {' '.join(words)}"


def pretrain_stories(words: list[str]) -> None:
    """``veneer pretrain stories``: a tokenizer and a model that writes stories, in a folder of transformers.

    Raises:
        InputError: an option or field that cannot be used; nothing has been written then.
    """
    from veneer.experiments.stories.pretrain import PRETRAINING, StoryPretrainingRun

    preset = preset_of(words)
    about = "Pretrain a model that writes children's stories to an instruction, on stories made by program."
    start = (StoryPretrainOptions(preset), PRETRAINING[preset])
    options, settings = ask(*start, words, "veneer pretrain stories", about)
    run = StoryPretrainingRun(settings, options.out or runs_folder() / f"stories-model-{preset}")
    use = f"stories --{'never' if settings.without else 'present'}"
    _pretrain_text(run, options.device, f"a model of size {settings.size}", use)


def pretrain_layers(words: list[str]) -> None:
    """``veneer pretrain layers``: a tokenizer and a base that has seen no instruction, in such a folder.

    Raises:
        InputError: an option or field that cannot be used; nothing has been written then.
    """
    from veneer.experiments.layers.pretrain import BasePretraining, BasePretrainingRun

    about = "Pretrain a small base for instruction tuning, on plain text made by program."
    start = (BasePretrainOptions(preset_of(words, ("quick",))), BasePretraining())
    options, settings = ask(*start, words, "veneer pretrain layers", about)
    run = BasePretrainingRun(settings, options.out or runs_folder() / "layers-base")
    _pretrain_text(run, options.device, "a base for instructions", "layers --base")


TEXTS = {"stories": pretrain_stories, "layers": pretrain_layers}
"""The text models that can be pretrained, by the experiment that they are for."""


def _pretrain_text(run: "TextPretraining[Any]", asked: str, what: str, use: str) -> None:
    """Train what is not finished, then show the losses and the run that takes the model."""
    from veneer.commands.progress import LiveProgress, following, quoted
    from veneer.commands.screen import Table, console, styled
    from veneer.experiments.begin import device_of

    device, began, updates = device_of(asked), time.monotonic(), run.settings.updates
    told = f" {what} on {device.type}: {updates:,} updates; results in {run.out}"
    console.print(styled(("pretraining", "bold"), told))
    if not run.finished:
        with LiveProgress(updates) as progress:
            run.execute(device, lambda step: progress.updates(1))
    table = Table(title="Loss a token, in nats")
    for name in (run.OF, "loss"):
        table.add_column(name, justify="right" if name == "loss" else "left")
    for _, name, value in run.final().iter_rows():
        table.add_row(name, f"{value:.3f}")
    console.print(table)
    console.print(f"{time.monotonic() - began:.0f} s", style="dim")
    following(f"veneer run {use} {quoted(run.out)}")
