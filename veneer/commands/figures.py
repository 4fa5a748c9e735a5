"""``veneer figures``: the counterparts of the paper's figures, as SVG and PDF."""

from pathlib import Path

from veneer.commands.options import FigureOptions, folders, parse
from veneer.commands.text_run import text_figures, text_folder
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer figures``."""
    given, rest = folders(words)
    if "--help" in rest or "-h" in rest:
        parse(FigureOptions, ["--help"], "veneer figures RUN")
    if len(given) != 1:
        raise InputError("run", " ".join(given) or None, "one folder in front: veneer figures RUN")
    options = parse(FigureOptions, rest, f"veneer figures {given[0]}")
    from veneer.commands.progress import following, quoted
    from veneer.commands.screen import console
    from veneer.experiments.points import runs_in
    from veneer.experiments.store import Run
    from veneer.report.paper.counterparts import lacking
    from veneer.report.paper.figures import figures

    if (trials := text_folder(Path(given[0]))) is not None:
        for path in text_figures(trials, options.style, options.out or trials.path / "figures"):
            console.print(f"wrote {path}", soft_wrap=True)
        following(f"veneer claims {quoted(trials.path)}")
        return
    run, drawn = Run.read(Path(given[0])), []
    with runs_in(run) as runs:
        for part, own in runs.items():
            out = (options.out or run.path / "figures") / part
            if part and not own.finished():
                console.print(f"nothing for {out}: no cell of this point is finished", soft_wrap=True)
                continue
            written = figures(own, options.style, out)
            for path in written:
                console.print(f"wrote {path}", soft_wrap=True)
            drawn.append({path.stem.split("-")[0] for path in written})
    for sentence in lacking(run, set.intersection(*drawn) if drawn else set()):
        console.print(sentence)
    following(f"veneer claims {quoted(run.path)}")
