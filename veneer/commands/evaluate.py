"""``veneer evaluate``: score any model's predictions on a dataset."""

import json
from dataclasses import asdict
from typing import Any

from veneer.commands.manners import tell
from veneer.commands.options import EvaluateOptions, folder_of, parse
from veneer.commands.progress import following, quoted
from veneer.commands.screen import Table, console
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer evaluate``."""
    folder, rest = folder_of(words, EvaluateOptions, "veneer evaluate DIR", "DIR")
    options = parse(EvaluateOptions, rest, "veneer evaluate DIR")
    from veneer.models.files import write_text
    from veneer.suites.scores import evaluate

    scores = evaluate(folder, options.predictions, options.split)
    text = json.dumps(asdict(scores), indent=1)
    if options.out is not None:
        try:
            write_text(options.out, text + "\n")
        except OSError as error:
            raise InputError("out", str(options.out), "a file that can be written", str(error)) from error
    if not tell("evaluate", asdict(scores)):
        _show(scores)
        if options.out is None:
            again = f"veneer evaluate {quoted(folder)} --predictions {quoted(options.predictions)}"
            following(f"{again} --split {scores.split} --out scores.json")


def _show(scores: Any) -> None:
    table = Table(title=f"{scores.dataset}, split {scores.split}")
    for name in ("on", "samples", "accuracy", "95 % interval"):
        table.add_column(name, justify="left" if name == "on" else "right")
    parts = {name: getattr(scores, name) for name in ("correlated", "uncorrelated", "equal")}
    rows = {"all": scores.accuracy, **parts, **{f"label {label}": s for label, s in scores.labels.items()}}
    for name, share in rows.items():
        if share.samples:
            table.add_row(
                name, f"{share.samples:,}", f"{share.value:.2%}", f"{share.low:.2%} to {share.high:.2%}"
            )
    console.print(table)
    shortcut = (
        "" if scores.shortcut is None else f"; of the shortcut (O_PT's answer + q): {scores.shortcut:.2%}"
    )
    console.print(f"accuracy of the commonest label: {scores.majority:.2%}{shortcut}")
    if scores.reliance is not None:
        r = scores.reliance
        console.print(
            f"shortcut reliance: {r.index:+.3f} (95 % {r.low:+.3f} to {r.high:+.3f}): the shortcut's answer "
            f"on {r.given.value:.2%} of {r.given.samples:,} uncorrelated samples, {r.chance:.2%} by chance"
        )
