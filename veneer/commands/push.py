"""``veneer push``: a dataset or models as a folder that a hub, ``datasets`` and ``transformers`` open."""

from veneer.commands.options import PushOptions, folder_of, parse
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer push``."""
    what, rest = folder_of(words, PushOptions, "veneer push WHAT", "WHAT")
    options = parse(PushOptions, rest, f"veneer push {what}")
    from veneer.commands.progress import following, quoted
    from veneer.commands.screen import console
    from veneer.experiments.hub import lay_out_capability, lay_out_run
    from veneer.experiments.origins import capability_at
    from veneer.experiments.store import Run
    from veneer.suites.hub import is_dataset, lay_out_dataset

    kind = "dataset" if is_dataset(what) else "model"
    if kind == "dataset":
        names = lay_out_dataset(what, options.out)
    elif (what / "experiment.json").is_file():
        names = lay_out_run(Run.read(what), options.out)
    else:
        try:
            capability = capability_at(what)
        except InputError as error:
            valid = "a folder of veneer generate, run, pretrain or compile, or one of L, M, H, jailbreak"
            raise InputError("WHAT", str(what), valid, error.problem) from error
        names = lay_out_capability(what.name, capability, options.out)
    many = "" if len(names) == 1 else "s"
    console.print(f"wrote {options.out}: {len(names):,} {kind}{many} and a card, README.md", soft_wrap=True)
    following(f"hf upload YOUR-NAME/{options.out.name} {quoted(options.out)} . --repo-type {kind}")
