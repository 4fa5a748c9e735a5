"""``veneer analyse``: look inside a run's models, and show the verdicts."""

import time
from pathlib import Path

from veneer.commands.options import AnalyseOptions, folder_of, parse
from veneer.commands.text_run import text_analyse, text_folder
from veneer.finetune.workers import start_server
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer analyse``."""
    folder, rest = folder_of(words, AnalyseOptions, "veneer analyse RUN", "run")
    if (trials := text_folder(folder)) is not None:
        text_analyse(trials, rest)
        return
    analyse_run(folder, parse(AnalyseOptions, rest, f"veneer analyse {folder}"))


def analyse_run(folder: Path, options: AnalyseOptions) -> None:
    """``veneer analyse``: make the tables, write the report again, and show the verdicts.

    Raises:
        InputError: no run, or one that lacks what an analysis needs.
    """
    if options.jobs is not None and options.jobs < 1:
        raise InputError("jobs", options.jobs, "1 or more")
    if options.jobs != 1:
        start_server()  # imports what workers need while this process imports the same

    from veneer.commands.manners import tell
    from veneer.commands.progress import Steps, following, quoted
    from veneer.commands.screen import console
    from veneer.commands.verdicts import show_verdicts
    from veneer.experiments.analyse import ANALYSES, Selection, analyse
    from veneer.experiments.analysis_tables import read_analysis
    from veneer.experiments.begin import device_of
    from veneer.experiments.store import Run
    from veneer.finetune.processor import cores
    from veneer.report.page import write_report

    run, began = Run.read(folder), time.monotonic()
    names = options.only or tuple(ANALYSES)
    with Steps() as say:
        chosen = Selection(options.capabilities, options.rates, options.c_tr, options.seeds)
        paths = analyse(run, device_of(options.device), names, say, chosen, options.jobs or cores())
        say("report")
        report = write_report(run)
    file = run.path / "analysis" / "verdicts.parquet"
    verdicts = read_analysis(run.path, "verdicts") if file in paths else None
    rows = [] if verdicts is None else verdicts.to_dicts()
    if tell("analyse", {"run": str(run.path), "tables": list(map(str, paths)), "verdicts": rows}):
        return
    if verdicts is not None:
        show_verdicts(verdicts)
    told = f"{time.monotonic() - began:.0f} s; tables in {run.path / 'analysis'}"
    console.print(told, style="dim", soft_wrap=True)
    following(f"veneer figures {quoted(run.path)}", page=report)
