"""What differs between two runs: in what they were made with, and in what came out.

Settings that both runs have are held against each other seed by seed, with the statistics of
``veneer.analysis.revival``: equal seeds have equal data, so their differences are paired. The command line
shows a ``Comparison`` in tables (``veneer.commands.compare``); here it is plain values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import polars as pl

from veneer.analysis.revival import Estimate, difference, ratio_of_times, survival, threshold_times
from veneer.experiments.content import Content, ReadRun, read_content
from veneer.experiments.curves import courses
from veneer.experiments.returns import revival_curves
from veneer.experiments.store import Run
from veneer.experiments.summary import REVIVED, final_accuracies
from veneer.tasks.errors import InputError

SETTING = ("capability", "fine_tuning_rate", "c_tr")
Section = Literal["experiment", "capability", "environment"]
SECTIONS: tuple[Section, ...] = get_args(Section)


@dataclass(frozen=True)
class Change:
    """One thing that two runs were made with differently; None where a run does not have it.

    Attributes:
        section: which part of the run it is of.
        name: the field.
        first: its value in the first run, as plain data.
        second: its value in the second.
    """

    section: Section
    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side. Differences are second less first, ratios second over first.

    Attributes:
        runs: names of their folders.
        experiments: their experiments.
        cells: how many cells are finished in each.
        changes: what they were made with differently.
        alike: number of fields that are the same.
        notes: what cannot be compared and why, a sentence each.
        axes: fields that one of them sweeps over, which settings have as texts.
        fine_tuning: by setting, texts ("correlated", "uncorrelated") and operand: first, second
            (accuracies, means over the seeds that did not diverge), difference, low, high, seeds,
            diverged_first, diverged_second.
        revival: by setting and reft_rate: before_first, before_second, first, second, difference,
            low, high, seeds (O_PT accuracy on natural texts before and after reFT, means as above),
            updates_first, updates_second (median updates to 90 %, null where fewer seeds get there),
            ratio, ratio_low, ratio_high, diverged_first, diverged_second.
        verdicts: by setting: first, second (the verdicts in words), changed.
        judged_by: what the verdicts rest on.
    """

    runs: tuple[str, str]
    experiments: tuple[str, str]
    cells: tuple[int, int]
    changes: list[Change]
    alike: int
    notes: list[str]
    axes: list[str]
    fine_tuning: pl.DataFrame
    revival: pl.DataFrame
    verdicts: pl.DataFrame
    judged_by: str

    @property
    def setting(self) -> list[str]:
        """Columns that tell settings apart in all three tables."""
        return [*SETTING, *self.axes]

    @property
    def equal(self) -> bool:
        """Whether nothing differs: neither how both were made nor anything that came out."""
        apart = (
            not table.filter((pl.col("difference") != 0) | (pl.col("first") != pl.col("second"))).is_empty()
            for table in (self.fine_tuning, self.revival)
        )
        changed = self.verdicts.is_empty() or not self.verdicts["changed"].any()
        return not (self.changes or self.notes or any(apart)) and changed and len(set(self.cells)) == 1

    def plain(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        tables = {name: getattr(self, name).to_dicts() for name in ("fine_tuning", "revival", "verdicts")}
        changes = [vars(change) for change in self.changes]
        own = ("runs", "experiments", "cells", "alike", "notes", "axes", "judged_by")
        return {**{name: getattr(self, name) for name in own}, "changes": changes, **tables}


@dataclass(frozen=True)
class _Side:
    """One of the two runs, read once."""

    run: Run
    content: Content
    axes: list[str]

    @property
    def name(self) -> str:
        return self.run.path.resolve().name

    @property
    def fields(self) -> dict[str, Any]:
        return self.content.experiment["fields"]

    def keyed(self, table: pl.DataFrame) -> pl.DataFrame:
        """The axes of either run as columns of text; a run that does not sweep has one value of each."""
        missing = {name: pl.lit(self.fields.get(name)) for name in self.axes if name not in table.columns}
        return table.with_columns(**missing).with_columns(pl.col(name).cast(pl.String) for name in self.axes)


def compare(first: Run, second: Run) -> Comparison:
    """Hold two runs against each other.

    Runs of different experiments are compared in what they were made with and in their verdicts, not
    in accuracies, which are of different questions.

    Raises:
        InputError: the same run twice, a folder that is no run of ours, or damaged files.
    """
    if first.path.resolve() == second.path.resolve():
        raise InputError("run", str(second.path), "two different runs", "both are the same folder")
    runs = [ReadRun(run.path) for run in (first, second)]
    contents = [read_content(run) for run in runs]
    swept = [list(content.experiment.get("axes", {})) for content in contents]
    axes = list(dict.fromkeys([*swept[0], *swept[1]]))
    one, other = (_Side(run, content, axes) for run, content in zip(runs, contents, strict=True))
    made = [_made_with(side, set(one.content.names) & set(other.content.names)) for side in (one, other)]
    changes = [
        Change(section, name, made[0].get((section, name)), made[1].get((section, name)))
        for section, name in sorted(made[0] | made[1], key=lambda field: SECTIONS.index(field[0]))
        if made[0].get((section, name)) != made[1].get((section, name))
    ]
    notes = _notes(one, other)
    comparable = one.content.experiment["name"] == other.content.experiment["name"]
    shown = [one, other] if comparable else []
    judged, judged_by = _judged(one, other)
    return Comparison(
        runs=(one.name, other.name),
        experiments=(one.content.experiment["name"], other.content.experiment["name"]),
        cells=(len(one.content.cells), len(other.content.cells)),
        changes=changes,
        alike=len(made[0].keys() | made[1].keys()) - len(changes),
        notes=notes,
        axes=axes,
        fine_tuning=_fine_tuning(shown, axes),
        revival=_revival(shown, axes),
        verdicts=judged,
        judged_by=judged_by,
    )


def _made_with(side: _Side, shared: set[str]) -> dict[tuple[Section, str], Any]:
    """All that a run was made with, by section and field; of capabilities those that both runs have."""
    experiment, environment = side.content.experiment, side.content.environment or {}
    found: dict[tuple[Section, str], Any] = {
        ("experiment", "experiment"): experiment["name"],
        ("experiment", "preset"): experiment.get("preset"),
        **{("experiment", name): value for name, value in side.fields.items()},
        **{("experiment", f"several values of {n}"): v for n, v in experiment.get("axes", {}).items()},
    }
    for own in side.content.names:
        files = side.content.first_of(own)
        if files is not None and own in shared:
            about = {**files.accuracy["about"], "weights": files.accuracy["origin"]["capability"]}
            found |= {("capability", f"{own}: {name}"): value for name, value in about.items()}
    plain = {name: value for name, value in environment.items() if name != "versions"}
    plain |= {f"{name} (version)": value for name, value in environment.get("versions", {}).items()}
    found |= {("environment", name): value for name, value in plain.items()}
    return found


def _notes(one: _Side, other: _Side) -> list[str]:
    names = [side.content.experiment["name"] for side in (one, other)]
    if names[0] != names[1]:
        return [
            f"{one.name} is a run of {names[0]} and {other.name} of {names[1]}: their accuracies answer "
            "different questions and are not compared; settings and verdicts are."
        ]
    notes = []
    for side in (one, other):
        if not side.content.cells:
            notes.append(f"{side.name} has no finished cell: there are no results to compare yet.")
    asked = [{cell["task_id"] for cell in side.content.cells} for side in (one, other)]
    if all(asked) and not asked[0] & asked[1]:
        notes.append("The two runs ask different tasks (see the fields that differ): each has its own texts.")
    for side, rest in ((one, other), (other, one)):
        only = sorted(_settings(side) - _settings(rest))
        if only and rest.content.cells:
            notes.append(f"Only {side.name} has {'; '.join(_told(setting, side.axes) for setting in only)}.")
    return notes


def _settings(side: _Side) -> set[tuple[Any, ...]]:
    if side.content.metrics is None:
        return set()
    tuned = side.content.metrics.filter(
        (pl.col("stage") == "fine-tune") & (pl.col("start") == "capability")
    ).unique("cell")
    return set(side.keyed(tuned).select(*SETTING, *side.axes).unique().iter_rows())


def _told(setting: tuple[Any, ...], axes: list[str]) -> str:
    capability, rate, c_tr, *values = setting
    model = "" if capability == "compiled" else f"{capability}, "
    rest = "".join(f", {name} {value}" for name, value in zip(axes, values, strict=True))
    return f"{model}rate {rate:g} with C_Tr = {c_tr:g}{rest}"


def _pairs(
    tables: list[pl.DataFrame], keys: list[str]
) -> Iterator[tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]]:
    """Rows of two tables that have the same keys, large rates first."""
    parts = [dict(iter(table.group_by(keys, maintain_order=True))) for table in tables]
    shared = [named for named in parts[0] if named in parts[1]] if len(parts) == 2 else []
    order = {name: place for place, name in enumerate(dict.fromkeys(named[0] for named in shared))}
    for named in sorted(shared, key=lambda n: (order[n[0]], -n[1], *map(str, n[3:]), n[2])):
        yield dict(zip(keys, named, strict=True)), parts[0][named], parts[1][named]


def _by_seed(rows: pl.DataFrame) -> dict[int, float]:
    return dict(rows.filter(pl.col("status") == "done").select("seed", "value").iter_rows())


def _mean(values: dict[int, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None


def _limits(found: Estimate) -> dict[str, Any]:
    """A difference of accuracies, whose interval ends where accuracies do."""
    low, high = (None if end is None else min(1.0, max(-1.0, end)) for end in (found.low, found.high))
    return {"difference": found.value, "low": low, "high": high, "seeds": found.seeds}


def _schema(axes: list[str], **own: Any) -> dict[str, Any]:
    keys = {"capability": pl.String, "fine_tuning_rate": pl.Float64, "c_tr": pl.Float64}
    return {**keys, **dict.fromkeys(axes, pl.String), **own}


_DIFFERENCE = {
    **dict.fromkeys(["first", "second", "difference", "low", "high"], pl.Float64),
    "seeds": pl.Int64,
}


_DIVERGED = {"diverged_first": pl.Int64, "diverged_second": pl.Int64}


def _diverged(*both: pl.DataFrame) -> dict[str, int]:
    """How many cells of either run diverged."""
    broken = [part.filter(pl.col("status") != "done")["cell"].n_unique() for part in both]
    return dict(zip(_DIVERGED, broken, strict=True))


def _fine_tuning(sides: list[_Side], axes: list[str]) -> pl.DataFrame:
    keys, rows = [*SETTING, *axes, "texts", "operand"], []
    tables = [
        side.keyed(
            final_accuracies(side.run).filter(
                (pl.col("stage") == "fine-tune")
                & (pl.col("start") == "capability")
                & (pl.col("texts") != "natural")
            )
        )
        for side in sides
        if side.content.cells
    ]
    for values, *both in _pairs(tables, keys):
        first, second = map(_by_seed, both)
        means = {"first": _mean(first), "second": _mean(second)}
        rows.append({**values, **means, **_limits(difference(second, first)), **_diverged(*both)})
    own = {"texts": pl.String, "operand": pl.String, **_DIFFERENCE}
    return pl.DataFrame(rows, schema=_schema(axes, **own, **_DIVERGED))


def _revival(sides: list[_Side], axes: list[str]) -> pl.DataFrame:
    keys, rows = [*SETTING, *axes, "learning_rate"], []
    tables = [
        side.keyed(revival_curves(side.run.metrics()).filter(pl.col("arm") == "reft"))
        for side in sides
        if side.content.cells
    ]
    for values, *both in _pairs(tables, keys):
        values["reft_rate"] = values.pop("learning_rate")
        edges = [_edges(part) for part in both]
        means = {
            f"{when}{which}": _mean(edge[place])
            for which, edge in zip(("first", "second"), edges, strict=True)
            for place, when in enumerate(("before_", ""))
        }
        after = difference(edges[1][1], edges[0][1])
        rows.append({**values, **means, **_limits(after), **_times(*both), **_diverged(*both)})
    own: dict[str, Any] = {"reft_rate": pl.Float64}
    own |= dict.fromkeys(["before_first", "before_second"], pl.Float64) | _DIFFERENCE
    times = ["updates_first", "updates_second", "ratio", "ratio_low", "ratio_high"]
    return pl.DataFrame(rows, schema=_schema(axes, **own, **dict.fromkeys(times, pl.Float64), **_DIVERGED))


def _edges(curve: pl.DataFrame) -> tuple[dict[int, float], dict[int, float]]:
    """The first and the last value of each seed."""
    at = pl.col("step")
    first, last = (curve.filter(at == end.over("cell")) for end in (at.min(), at.max()))
    return _by_seed(first), _by_seed(last)


def _times(first: pl.DataFrame, second: pl.DataFrame) -> dict[str, float | None]:
    """Median updates to 90 %, and how many times as many the second run needs."""
    times = [
        threshold_times(rows.select("arm", "seed", "step", "value"), ["arm"], [REVIVED])
        for rows in (first, second)
    ]
    medians = [survival(table, ["arm"])["median"].to_list() for table in times]
    ratio = ratio_of_times(times[0], times[1])  # the second stands where a control does
    found = {"updates_first": medians[0][0], "updates_second": medians[1][0]}
    return {**found, "ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high}


def _judged(one: _Side, other: _Side) -> tuple[pl.DataFrame, str]:
    """The verdicts of both runs at the settings that both have: those of the analyses if both have them."""
    by_evidence = all("verdicts" in side.content.analyses for side in (one, other))
    tables = [_verdicts(side, by_evidence) for side in (one, other)]
    rows = [
        {**values, "first": a["kind"][0], "second": b["kind"][0], "changed": a["kind"][0] != b["kind"][0]}
        for values, a, b in _pairs(tables, [*SETTING, *one.axes])
    ]
    own = {"first": pl.String, "second": pl.String, "changed": pl.Boolean}
    table = pl.DataFrame(rows, schema=_schema(one.axes, **own))
    if by_evidence:
        return table, "all evidence (veneer analyse)"
    return table, "the reFT curves alone; veneer analyse on both runs weighs more"


def _verdicts(side: _Side, by_evidence: bool) -> pl.DataFrame:
    """Setting and kind; a sweep has verdicts by its analyses only."""
    if by_evidence:
        own = side.content.analyses["verdicts"].filter(pl.col("start") == "capability")
        return side.keyed(own).select(*SETTING, *side.axes, "kind")
    if side.content.experiment.get("axes"):
        return pl.DataFrame(schema=_schema(side.axes, kind=pl.String))
    found = [(v.capability, v.fine_tuning_rate, v.c_tr, v.kind) for v in courses(side.run)]
    table = pl.DataFrame(found, schema=[*SETTING, "kind"], orient="row")
    return side.keyed(table).select(*SETTING, *side.axes, "kind")
