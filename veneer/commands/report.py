"""``veneer report``: one page about a run, or about several."""

from pathlib import Path

from veneer.commands.options import ReportOptions, folders, parse
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer report``."""
    given, rest = folders(words)
    if "--help" in rest or "-h" in rest:
        parse(ReportOptions, ["--help"], "veneer report RUN [RUN ...]")
    if not given:
        raise InputError("run", None, "one folder or more in front: veneer report RUN [RUN ...]")
    options = parse(ReportOptions, rest, f"veneer report {' '.join(given)}")
    if len(given) > 1 and options.out is None:
        raise InputError("out", None, "a file for the page of several runs")
    from veneer.commands.progress import following
    from veneer.commands.screen import console
    from veneer.commands.text_run import text_folder, text_report
    from veneer.experiments.store import Run
    from veneer.report.page import write_report, write_reports

    if len(given) == 1 and (trials := text_folder(Path(given[0]))) is not None:
        if options.out is not None:
            raise InputError("out", str(options.out), f"none: the page lies in {given[0]}")
        written = text_report(trials)
        console.print(f"wrote {written}", soft_wrap=True)
        following(page=written)
        return
    runs = [Run.read(Path(folder)) for folder in given]
    written = write_report(runs[0]) if options.out is None else write_reports(runs, options.out)
    console.print(f"wrote {written}", soft_wrap=True)
    following(page=written)
