"""The HTML report of runs: one file that tells what became of the capability, and how sure that is.

A sweep's chapter begins with an overview of all its points, and then has what a run's chapter has for the
point that the reader chooses; the points lie deflated in the page until they are asked for.

It only arranges: verdicts come from ``veneer.experiments.evidence``, what curves show from
``veneer.experiments.curves``, figures from ``figures``, tables from ``tables``, words about methods from
``methods``, all beside this module. The file loads nothing from a network, and says so to the browser.
"""

import base64
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from veneer.experiments.content import CapabilityFiles, Content, ReadRun, read_content
from veneer.experiments.curves import Course, courses
from veneer.experiments.points import axes_of, points_of, value_name
from veneer.experiments.store import Run
from veneer.experiments.summary import before
from veneer.models.files import write_text
from veneer.report import answer, figures, methods, sweep_page, tables
from veneer.report.colours import NIGHT, ROLES, share_colour
from veneer.report.evidence_columns import best_rates
from veneer.report.opening import opening
from veneer.report.page_data import (
    MAP_BYTES,
    as_json,
    attention_data,
    curve_panels,
    pack_json,
    rounded,
)
from veneer.report.page_tables import MOST_CELLS, page_tables
from veneer.report.plain_page import WEB, page_style
from veneer.report.samples import sample_data
from veneer.report.stored_task import answer_word, label_histograms, learned
from veneer.report.tables import MEANINGS, SYMBOLS, percent
from veneer.tasks.errors import InputError

SCRIPTS = (
    "start.js",
    "curves.js",
    "maps.js",
    "tables.js",
    "forward.js",
    "samples.js",
    "folds.js",
    "sweep.js",
    "page.js",
)
PLOTLY = "plotly-cartesian-4.1.1.min.js.gz"
"""Plotly's bundle of charts with two axes (npm: plotly.js-cartesian-dist-min), compressed as it travels."""
Chapter = tuple[dict[str, Any], dict[str, Any]]


def write_report(run: Run) -> Path:
    """Write ``report.html`` into a run's folder, finished or not, whole or not at all.

    Raises:
        InputError: the folder is no run of ours, or files in it are damaged.
    """
    return write_reports([run], run.path / "report.html")


def write_reports(runs: Sequence[Run], path: str | os.PathLike[str]) -> Path:
    """Write one page about several runs, each a chapter, whole or not at all.

    Raises:
        InputError: no runs or one twice, a folder that is no run of ours, damaged files, or a page
            that cannot be written.
    """
    path, paths = Path(path), [run.path.resolve() for run in runs]
    if not paths or len(set(paths)) != len(paths):
        raise InputError("run", [str(run.path) for run in runs], "one or more different runs")
    if not path.name or path.is_dir():
        raise InputError("out", str(path), "a file that can be written", "it is a folder")
    page = render(runs)
    try:
        write_text(path, page)
    except OSError as error:
        raise InputError("out", str(path), "a file that can be written", str(error)) from error
    return path


def render(runs: Sequence[Run]) -> str:
    """The page as text.

    Raises:
        InputError: as ``write_reports``.
    """
    here = WEB
    chapters = [_chapter(run, i) for i, run in enumerate(runs)]
    scripts = "\n".join((here / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            chapters=[words for words, _ in chapters],
            style=Markup(page_style()),
            script=Markup(f"const roles = {as_json(ROLES)}, darker = {as_json(NIGHT)};\n{scripts}"),
            plotly=Markup(base64.b64encode((here / PLOTLY).read_bytes()).decode()),
            data=Markup(as_json({words["prefix"]: data for words, data in chapters})),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(WEB), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["symbols"] = SYMBOLS
    environment.globals["roles"] = ROLES
    environment.globals["measures"] = sweep_page.MEASURES
    environment.filters["percent"] = percent
    environment.filters["rate"] = figures.rate_name
    environment.filters["pairs"] = lambda words: [(word, word) for word in words]
    environment.filters["percents"] = lambda words: [(word, f"{word} %") for word in words]
    return environment


def _chapter(run: Run, place: int) -> Chapter:
    """What the template shows of a run or a sweep, and what the script draws of it."""
    prefix, folder = "" if place == 0 else f"r{place + 1}-", run.path.resolve().name
    return _sweep_chapter(run, prefix, folder) if axes_of(run) else _run_chapter(run, prefix, folder)


def _sweep_chapter(run: Run, prefix: str, folder: str) -> Chapter:
    """The overview of a sweep, and each point's chapter as text, deflated."""
    axes, experiment = axes_of(run), run.experiment
    template: Any = _environment().get_template("chapter.html.jinja").module
    with points_of(run) as points:
        given = str(run.path)
        made = [_run_chapter(own.run, prefix, folder, own.name, 1 / len(points), given) for own in points]
        chapters = [words for words, _ in made]
        question = {words["question"] for words in chapters}
        if len(question) == 1:  # then it is asked once, above
            for words in chapters:
                words["question"] = ""
        packed = [pack_json({"markup": template.chapter(words), **data}) for words, data in made]
        answers = sweep_page.answers(points, [w["judged"] for w in chapters], [w["rows"] for w in chapters])
    words = {key: chapters[0][key] for key in ("prefix", "folder", "name", "preset", "operands")}
    words |= {
        "question": question.pop() if len(question) == 1 else "",
        "axes": {name: [value_name(value) for value in values] for name, values in axes.items()},
        "points": len(points),
        "settings": experiment["fields"],
        "capabilities": chapters[0]["capabilities"],
        **sweep_page.overview(axes, answers),
        "finished": len(run.finished()),
        "unfinished": sum(w["planned"] is None or w["finished"] < w["planned"] for w in chapters),
        "diverged": sum(bool(w["diverged"]) for w in chapters),
        "by_evidence": all(w["by_evidence"] for w in chapters),
        "left_out": sum(bool(words["left_out"]) for words in chapters),
        "origins_known": all(own.origins_known for own in points),
        "command": experiment.get("command", ""),
    }
    drawn = {name: words[name] for name in ("axes", "answers", "capabilities")}
    drawn |= {"symbols": SYMBOLS, "notes": sweep_page.NOTES, "points": packed}
    return words, {"sweep": drawn}


def _run_chapter(
    run: Run, prefix: str, folder: str, point: str = "", share: float = 1.0, given: str = ""
) -> Chapter:
    """What the template shows of a run, and what the script draws of it.

    Args:
        run: the run, or a point of a sweep.
        prefix: in front of the ids of the chapter's elements.
        folder: name of the folder that a reader looks into.
        point: the point in words; empty for a run that is not one.
        share: how much of the bytes that a run may take are this one's.
        given: the folder as a reader knows it; empty for the run's own.
    """
    run = run if isinstance(run, ReadRun) else ReadRun(run.path)
    content = read_content(run)
    verdicts = content.analyses.get("verdicts")
    analysed = verdicts is not None
    if not point and not analysed and content.planned == len(content.cells):
        # What the rule says of retraining alone; ``veneer analyse`` adds what it finds inside. In a sweep it
        # is asked for: hundreds of points would take minutes.
        verdicts = run.judged
    settings, name = content.experiment["fields"], content.experiment["name"]
    found = courses(run)
    judged = tables.judged(verdicts, found)
    first_words, lead = opening(run, content, judged, given or str(run.path), point)
    best = best_rates(run, content, found)
    panels, maps = curve_panels(content, best), attention_data(run, content, round(share * MAP_BYTES))
    listed, left_out = page_tables(content.analyses, max(1, round(share * MOST_CELLS)))
    labels = {
        own.name: label_histograms(content.experiment, own.model, own.folder.parents[1])
        for own in _one_each(content)
    }
    shares = sorted(settings["c_tr"])
    shown = _shown_first(judged, content, maps, lead)
    samples = sample_data(run, content, _in_order(judged, shown), share)
    times = tables.revival_times(run, content, best)
    if lead is not None:
        panels.figures["lead"] = rounded(answer.figure(lead))
    words = {
        **first_words,
        "prefix": prefix,
        "folder": folder,
        "point": point,
        "name": name,
        "preset": content.experiment["preset"],
        "settings": settings,
        "learned": learned(content.experiment),
        "capabilities": content.names,
        "operands": methods.operands(content.experiment),
        "question": methods.question(content.experiment),
        "answer": tables.headline(judged),
        "judged": judged,
        "by_evidence": analysed,
        "certainty": methods.certainty(content.experiment, before(run) if content.cells else {}),
        "rows": tables.verdict_rows(run, content, found),
        "finished": len(content.cells),
        "planned": content.planned,
        "diverged": tables.diverged_cells(content),
        "majority_note": _majority_note(content),
        "panels": panels,
        "maps": maps,
        "left_out": [*(maps or {}).get("left_out", []), *left_out],
        "tables": listed,
        "shown": shown,
        "samples": samples,
        "typing": _typing(content, samples),
        "meanings": MEANINGS,
        "legend": [(share, share_colour(shares, share)) for share in shares],
        "times": times,
        "thresholds": [(part["threshold"], part["label"]) for part in times],
        "paper": tables.against_paper(run, content),
        "labels": labels,
        "sections": _method_sections(content),
        "environment": content.environment,
        "reused": Counter((own["run"], own["commit"], own["device"]) for own in content.reused.values()),
        "deviations": methods.deviations(content),
        "pretraining": _pretraining_commands(content),
    }
    drawn = {
        "path": shlex.quote(given or str(run.path)),
        "figures": panels.figures,
        "controls": panels.controls,
        "attention": maps,
    }
    return words, {**drawn, "tables": listed, "labels": labels, "samples": samples}


def _in_order(found: list[tables.Judged], shown: dict[str, str]) -> list[tuple[str, float, float]]:
    """Every setting, those whose models the page opens on in front."""
    first = shown["capability"], float(shown["rate"]), float(shown["c_tr"])
    return sorted((_setting(one.curves) for one in found), key=lambda setting: setting != first)


def _typing(content: Content, samples: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a reader may type, and a text to begin with; None where no model travels in the page."""
    own = next((part for part in (samples or {}).values() if part["weights"]), None)
    if own is None:
        return None
    reads, words = own["reads"], own["vocabulary"]
    texts = ("".join(words[token] for token in text[1:]) for text in own["texts"])
    return {
        "max_length": reads["max_length"],
        "letters": "".join(word for word in words if word not in (reads["bos"], reads["pad"])),
        "example": next(texts).replace(reads["pad"], ""),
    }


def _one_each(content: Content) -> list[CapabilityFiles]:
    found = (content.first_of(name) for name in content.names)
    return [files for files in found if files is not None]


def _pretraining_commands(content: Content) -> list[str]:
    if not learned(content.experiment):
        return []
    commands = (files.accuracy["about"]["command"] for files in _one_each(content))
    return list(dict.fromkeys(command for command in commands if command))


def _shown_first(
    found: list[tables.Judged], content: Content, maps: dict[str, Any] | None, lead: answer.Lead | None
) -> dict[str, str]:
    """What is shown first: the setting that leads, if its model was looked into, else one that was.

    Of its attention, the block and head whose answer looks most at O_PT's tokens before fine-tuning.
    """
    seeds = _looked_into(content)
    own = [one for one in found if _setting(one.curves) in seeds] or found
    clear = [one for kind in answer.RANKED for one in own if one.kind == kind] or own
    leads = lead is not None and lead.judged in own
    chosen = lead.judged.curves if lead is not None and leads else clear[0].curves
    reft = (lead.rate if lead is not None and leads else chosen.reft_rate) or max(
        content.experiment["fields"]["reft_rates"], default=0.0
    )
    model = (maps or {"models": {}})["models"].get(chosen.capability)
    block, head = model["opens"] if model else (0, 0)
    return {
        "capability": chosen.capability,
        "rate": f"{chosen.fine_tuning_rate:g}",
        "c_tr": f"{chosen.c_tr:g}",
        "reft": f"{reft:g}",
        "seed": str(seeds.get(_setting(chosen), content.experiment["fields"]["first_seed"])),
        "block": str(block),
        "head": str(head),
    }


def _setting(course: Course) -> tuple[str, float, float]:
    return course.capability, course.fine_tuning_rate, course.c_tr


def _looked_into(content: Content) -> dict[tuple[str, float, float], int]:
    """The settings whose models were pruned (or else grafted, or probed), each with its least seed."""
    keys = ["capability", "fine_tuning_rate", "c_tr"]
    for name in ("pruning", "grafting", "probes"):
        if name in content.analyses:
            tuned = content.analyses[name].filter(
                (pl.col("start") == "capability") & (pl.col("stage") == "fine-tune")
            )
            least = tuned.group_by(keys).agg(pl.col("seed").min())
            return {(capability, rate, c_tr): seed for capability, rate, c_tr, seed in least.iter_rows()}
    return {}


def _method_sections(content: Content) -> list[tuple[str, list[methods.Entry]]]:
    sections = [
        ("Data", methods.task(content)),
        ("Training and testing", methods.training(content.experiment)),
    ]
    if content.capabilities:
        kind = "learned" if learned(content.experiment) else "written"
        title = f"The {kind} capabilit{'ies' if len(content.names) > 1 else 'y'}"
        sections.insert(0, (title, methods.capabilities(content)))
    return sections


def _majority_note(content: Content) -> str:
    parts = []
    for texts in list(content.baselines.values())[:1]:
        for kind, text in texts.items():
            for o in ("pt", "ft"):
                share, answer = percent(text["majority"][o]), (text.get("answer") or {}).get(o)
                always = "" if answer is None else f" (always {answer_word(answer)})"
                parts.append(f"{figures.NAMES[o]} {share} %{always} on {kind} texts")
    return "; ".join(parts)
