"""The HTML report of a run: one file that tells what became of the capability, and how sure that is.

It only arranges: verdicts come from ``veneer.summary``, figures from ``veneer.figures``, words about
methods from ``veneer.methods``. The file loads nothing from a network, and says so to the browser.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tasks.errors import InputError
from veneer import figures, methods
from veneer.experiments import PRESETS
from veneer.page_data import as_json, attention_data, curve_panels
from veneer.store import FORMAT, Run, checksum, read_json
from veneer.summary import (
    MARGIN,
    REVIVED,
    Verdict,
    VerdictKind,
    fine_tuning_grid,
    first_baselines,
    verdicts,
)

NOTABLE = 0.15  # a difference from the paper that is pointed out
READ = ("metrics.parquet", "attention.safetensors")
SYMBOLS: dict[VerdictKind, str] = {
    "wrapped": "◐",
    "not revived": "○",
    "undecided": "?",
    "never left": "●",
    "diverged": "✕",
    "not reFTed": "–",
    "not finished": "…",
}
MEANINGS: dict[VerdictKind, str] = {
    "wrapped": "O_PT was hidden by fine-tuning, and reFT brought it back",
    "not revived": "reFT did not bring O_PT back",
    "undecided": "reFT brought O_PT back in part",
    "never left": "fine-tuning left O_PT as it was",
    "diverged": "fine-tuning diverged, so nothing can be said",
    "not reFTed": "no reFT was planned",
    "not finished": "not trained yet",
}


@dataclass(frozen=True)
class Content:
    """What is in a run's folder, read and checked.

    Attributes:
        experiment: ``experiment.json``.
        cells: ``cell.json`` of every finished cell.
        planned: number of cells that will be there at the end; None before they are planned.
        metrics: ``Run.metrics``, or None while no cell is finished.
        baselines: ``baselines.json``, or None before it is written.
        environment: ``environment.json``, likewise.
        capability: ``model.json`` of the first seed, likewise.
        accuracies: ``accuracy.json`` by seed.
    """

    experiment: dict[str, Any]
    cells: list[dict[str, Any]]
    planned: int | None
    metrics: pl.DataFrame | None
    baselines: dict[str, Any] | None
    environment: dict[str, Any] | None
    capability: dict[str, Any] | None
    accuracies: dict[int, Any]


def write_report(run: Run) -> Path:
    """Write ``report.html`` into a run's folder, finished or not, whole or not at all.

    Raises:
        InputError: the folder is no run of ours, or files in it are damaged.
    """
    path = run.path / "report.html"
    temporary = path.with_name(f".report.{os.getpid()}.tmp")
    page = render(run)
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError("run", str(run.path), "a folder that can be written", str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render(run: Run) -> str:
    """The report as text.

    Raises:
        InputError: as ``write_report``.
    """
    content = read_content(run)
    settings = content.experiment["fields"]
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["rate"] = figures.rate_name
    environment.filters["pairs"] = lambda words: [(word, word) for word in words]
    found = verdicts(run)
    panels, maps = curve_panels(run, content.metrics, content.baselines), attention_data(run, content.metrics)
    return environment.get_template("report.html.jinja").render(
        name=content.experiment["name"],
        preset=content.experiment["preset"],
        settings=settings,
        operands=methods.operands(content.experiment),
        question=methods.question(content.experiment),
        answer=headline(found),
        certainty=methods.certainty(content.experiment),
        verdicts=found,
        rows=verdict_rows(run, content, found),
        symbols=SYMBOLS,
        meanings=MEANINGS,
        finished=len(content.cells),
        planned=content.planned,
        diverged=diverged_cells(content),
        majority_note=_majority_note(content),
        panels=panels,
        maps=maps,
        shown=_shown_first(found, content),
        legend=[
            (share, figures.c_tr_colour(sorted(settings["c_tr"]), share))
            for share in sorted(settings["c_tr"])
        ],
        paper=paper_rows(run) if content.cells else [],
        sections=_method_sections(content),
        environment=content.environment,
        deviations=methods.deviations(content.experiment, _noise(content)),
        command=methods.command(content.experiment),
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
        script=Markup((here / "report.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        data=Markup(as_json({"figures": panels.figures, "attention": maps})),
    )


def read_content(run: Run) -> Content:
    """Read a run's folder and check what is read.

    Raises:
        InputError: the folder is no run of ours, or files in it are damaged.
    """
    experiment, cells = run.experiment, run.cells()
    valid = "a folder made by this version of veneer run"
    if not isinstance(experiment, dict) or experiment.get("name") not in PRESETS:
        raise InputError("run", str(run.path), valid, "its experiment.json describes no experiment of ours")
    expected = set(vars(PRESETS[experiment["name"]]["quick"]))
    if experiment.get("format") != FORMAT or expected - set(experiment.get("fields", {})):
        raise InputError(
            "run", str(run.path), valid, "its experiment.json lacks fields or has another format"
        )
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("format") != FORMAT:
            raise InputError("run", str(run.path), valid, "a cell.json in it is not of this format")
        folder = run.cell_path(str(cell.get("id")))
        for name in READ:
            if not (folder / name).exists() or checksum(folder / name) != cell.get("files", {}).get(name):
                raise InputError("run", str(run.path), valid, f"{folder / name} is missing or damaged")
    seeds = [s for s in range(experiment["fields"]["seeds"]) if (_seed(run, s) / "accuracy.json").exists()]
    plan = _if_written(run.path / "plan.json")
    return Content(
        experiment=experiment,
        cells=cells,
        planned=None if plan is None else _planned(plan, cells, experiment["fields"]["reft_rates"]),
        metrics=run.metrics() if cells else None,
        baselines=first_baselines(run) if (run.path / "baselines.json").exists() else None,
        environment=_if_written(run.path / "environment.json"),
        capability=read_json(_seed(run, seeds[0]) / "model.json") if seeds else None,
        accuracies={seed: read_json(_seed(run, seed) / "accuracy.json") for seed in seeds},
    )


def _seed(run: Run, seed: int) -> Path:
    return run.path / "capabilities" / f"seed-{seed}"


def _if_written(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _planned(plan: dict[str, Any], cells: list[dict[str, Any]], reft_rates: list[float]) -> int:
    """Cells at the end: those planned, less the reFTs of what diverged."""
    total = sum(len(fleet["cells"]) for fleet in plan["fleets"])
    return total - sum(_without_start(cell, reft_rates) for cell in cells)


def _without_start(cell: dict[str, Any], reft_rates: list[float]) -> int:
    """How many reFTs cannot begin because this fine-tuning diverged."""
    if cell["status"] == "done" or cell["stage"]["name"] != "fine-tune":
        return 0
    return sum(rate <= cell["stage"]["recipe"]["learning_rate"] for rate in reft_rates)


def diverged_cells(content: Content) -> list[str]:
    """Every cell that diverged, in words."""
    if content.metrics is None:
        return []
    broken = content.metrics.filter(pl.col("status") != "done")
    keys = ["stage", "learning_rate", "fine_tuning_rate", "c_tr", "seed", "status"]
    found = []
    for stage, rate, first, c_tr, seed, status in broken.select(keys).unique(maintain_order=True).iter_rows():
        after = f" after fine-tuning at {first:g}" if stage == "reft" else ""
        lost = sum(reft <= rate for reft in content.experiment["fields"]["reft_rates"])
        orphans = (
            f"; its {lost} reFT{'s were' if lost != 1 else ' was'} not started" if not after and lost else ""
        )
        name = "reFT" if stage == "reft" else "Fine-tuning"
        found.append(f"{name} at {rate:g}{after}, C_Tr = {c_tr:g}, seed {seed}: {status}{orphans}.")
    return found


def headline(found: list[Verdict]) -> list[dict[str, Any]]:
    """The answer, by verdict: its kind, what it means, how many settings and which."""
    groups = []
    for kind, meaning in MEANINGS.items():
        own = [verdict for verdict in found if verdict.kind == kind]
        by_share: dict[float, list[str]] = {}
        for verdict in own:
            by_share.setdefault(verdict.c_tr, []).append(figures.rate_name(verdict.fine_tuning_rate))
        where = "; ".join(
            f"C_Tr = {c:g} at rate{'s' if len(rates) > 1 else ''} {_listed(rates)}"
            for c, rates in sorted(by_share.items())
        )
        if own:
            groups.append(
                {"kind": kind, "meaning": meaning, "count": len(own), "of": len(found), "where": where}
            )
    return groups


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _shown_first(found: list[Verdict], content: Content) -> dict[str, str]:
    """The cell whose attention is shown first: a wrapped one if there is any, with the last C_Tr."""
    wrapped = [verdict for verdict in found if verdict.kind == "wrapped"] or found
    chosen = max(wrapped, key=lambda verdict: verdict.c_tr)
    reft = chosen.reft_rate or max(content.experiment["fields"]["reft_rates"], default=0.0)
    return {"rate": f"{chosen.fine_tuning_rate:g}", "c_tr": f"{chosen.c_tr:g}", "reft": f"{reft:g}"}


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage, or a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def verdict_rows(run: Run, content: Content, found: list[Verdict]) -> list[dict[str, Any]]:
    """Each verdict with the accuracies on O_FT that fine-tuning ended with, and what it learned."""
    ended: dict[tuple[float, float, int], float] = {}
    guess = 0.0
    if content.baselines is not None and content.cells:
        guess = content.baselines["uncorrelated"]["majority"]["ft"]
        grid = fine_tuning_grid(run).filter(pl.col("operand") == "ft")
        columns = grid.select("learning_rate", "c_tr", "c_te", "value").iter_rows()
        ended = {(rate, c_tr, c_te): value for rate, c_tr, c_te, value in columns}
    rows = []
    for verdict in found:
        right = [ended.get((verdict.fine_tuning_rate, verdict.c_tr, c_te)) for c_te in (1, 0)]
        words = "–" if verdict.kind == "diverged" else learned(right[0], right[1], guess)
        rows.append({"verdict": verdict, "ft_1": right[0], "ft_0": right[1], "learned": words})
    return rows


def learned(correlated: float | None, uncorrelated: float | None, guess: float) -> str:
    """What fine-tuning taught, from O_FT's accuracies on the two kinds of text and that of guessing."""
    if correlated is None or uncorrelated is None:
        return "–"
    if correlated >= REVIVED and uncorrelated >= REVIVED:
        return "the task"
    return "the shortcut" if correlated >= REVIVED and uncorrelated <= guess + MARGIN else "neither"


def paper_rows(run: Run) -> list[dict[str, Any]]:
    """Ours beside Table 3: one row per rate and C_Tr, four cells each (C_Te 1 and 0, O_PT and O_FT)."""
    grid, rows = fine_tuning_grid(run), []
    for rate, c_tr in grid.select("learning_rate", "c_tr").unique(maintain_order=True).iter_rows():
        own = grid.filter((pl.col("learning_rate") == rate) & (pl.col("c_tr") == c_tr))
        cells = {(cell["c_te"], cell["operand"]): cell for cell in own.iter_rows(named=True)}
        order = [(c_te, operand) for c_te in (1, 0) for operand in ("pt", "ft")]
        rows.append({"rate": rate, "c_tr": c_tr, "cells": [_compared(cells[key]) for key in order]})
    return rows


def _compared(cell: dict[str, Any]) -> dict[str, Any]:
    ours, paper = cell["value"], cell["paper"]
    mark = ""
    if paper is not None and abs(ours - paper) > NOTABLE:
        mark = f"{100 * abs(ours - paper):.0f} {'higher' if ours > paper else 'lower'}"
    status = "" if cell["status"] == "done" else cell["status"]
    return {
        "ours": ours,
        "paper": paper,
        "mark": mark,
        "higher": bool(mark) and ours > paper,
        "status": status,
    }


def _noise(content: Content) -> float | None:
    return next((measured["noise"] for measured in content.accuracies.values()), None)


def _method_sections(content: Content) -> list[tuple[str, list[methods.Entry]]]:
    sections = [
        ("Data", methods.task(content.experiment)),
        ("Training and testing", methods.training(content.experiment)),
    ]
    if content.capability is not None:
        described = methods.capability(content.experiment, content.capability, content.accuracies)
        sections.insert(0, ("The written capability", described))
    return sections


def _majority_note(content: Content) -> str:
    if content.baselines is None:
        return ""
    parts = [
        f"{figures.NAMES[o]} {percent(text['majority'][o])} % (always {text['answer'][o]!r}) on {kind} texts"
        for kind, text in content.baselines.items()
        for o in ("pt", "ft")
    ]
    return "; ".join(parts)
