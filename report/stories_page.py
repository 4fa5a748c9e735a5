"""The page of a run of stories: verdicts, curves of reFT, the table like the paper's, stories to read.

One file that loads nothing and needs no script: its curves are drawn as SVG.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from veneer.experiments.paper import paper_twists
from veneer.experiments.stories.evidence import Measured, Outcome
from veneer.experiments.stories.result import rows
from veneer.experiments.stories.settings import NAMES, Arm
from veneer.experiments.stories.store import StoriesRun
from veneer.language.stories.features import FEATURES
from veneer.report.colours import ATTACKS
from veneer.report.line_chart import Levels, Line, chart
from veneer.report.plain_page import rendered, write_page

ARM_COLOURS: dict[Arm, str] = {
    "filtering": ATTACKS[0],
    "mix-and-match": ATTACKS[1],
    "randomisation": ATTACKS[2],
    "never": ATTACKS[3],
    "scratch": ATTACKS[4],
    "present": ATTACKS[6],
}
READ: tuple[Arm, ...] = ("present", "filtering", "mix-and-match", "randomisation", "never")
"""Arms of which a story is shown."""


def write_stories_page(run: StoriesRun, outcomes: Sequence[Outcome]) -> Path:
    """Write ``report.html`` into the run's folder, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    return write_page(run.path, render(run, outcomes))


def render(run: StoriesRun, outcomes: Sequence[Outcome]) -> str:
    """The page as text."""
    measured, settings = Measured(run), run.settings
    found = rows(run, list(outcomes))
    last = settings.reft_updates
    steps = [0, *(step for step in settings.steps("revive") if step in (1, 4, 16, 64, last))]
    inputs = run.inputs()
    values: dict[str, Any] = dict(
        outcomes=outcomes,
        settings=asdict(settings),
        feature=settings.feature,
        rows=found,
        steps=list(dict.fromkeys(steps)),
        pretrained=measured.as_it_is("present"),
        never=measured.as_it_is("never"),
        charts=[(name, Markup(drawn)) for name, drawn in _charts(measured) if drawn],
        legend=_legend(measured),
        written=_written(run),
        paper=_paper(),
        probes=_probes(run.probes()),
        features=FEATURES,
        hashes=[(own, file, sha) for own, files in inputs["models"].items() for file, sha in files.items()],
        environment=inputs["environment"],
        unfinished=len(run.pending()),
        trials=len(run.trials()),
    )
    return rendered("stories.html.jinja", values)


def _legend(measured: Measured) -> list[tuple[str, str, bool]]:
    """Colour and name of every arm that is drawn, and whether its line is broken."""
    return [
        (ARM_COLOURS[arm], f"{NAMES[arm]} at {rate:g}" if rate else NAMES[arm], _broken(measured, arm, rate))
        for arm, rate in measured.arms
        if not measured.curve(arm, rate).is_empty()
    ]


def _broken(measured: Measured, arm: Arm, rate: float) -> bool:
    return bool(rate) and arm != "scratch" and rate < max(measured.settings.rates)


def _charts(measured: Measured) -> list[tuple[str, str]]:
    """Share and loss over the updates of reFT."""
    feature = measured.settings.feature
    share, loss = (
        f"Stories with a {feature}, in percent",
        f"Loss a token of stories with a {feature}, in nats",
    )
    shares, losses = _lines(measured, "share"), _lines(measured, "loss_with")
    values = [value for line in losses for _, value in line.points]
    drawn = chart(losses, _levels(values), loss) if values else ""
    return [(share, chart(shares, _share_levels(measured, shares), share)), (loss, drawn)]


def _lines(measured: Measured, measure: str) -> list[Line]:
    """A line for each arm, the mean over seeds, with thin ones for the seeds where there are several."""
    lines = []
    for arm, rate in measured.arms:
        curve = measured.curve(arm, rate, measure)
        colour, broken = ARM_COLOURS[arm], _broken(measured, arm, rate)
        if measured.settings.seeds > 1:
            for _, own in curve.group_by("seed", maintain_order=True):
                lines.append(Line(own.sort("step").select("step", "value").rows(), colour, 1, 0.35, broken))
        average = curve.group_by("step").agg(pl.col("value").mean()).sort("step").rows()
        if average:
            lines.append(Line(average, colour, dash=broken))
    return lines


def _share_levels(measured: Measured, lines: Sequence[Line]) -> Levels:
    """An axis for shares, as long as they need, with the pretrained model's level."""
    full = measured.as_it_is("present") or 0.0
    most = max([full, *(value for line in lines for _, value in line.points)])
    end = next(own for own in (0.1, 0.25, 0.5, 1.0) if most <= own)
    marks = [(0.0, "0"), (end, f"{100 * end:.0f}")]
    if 0.1 * end < full < 0.9 * end:
        marks.append((full, f"{100 * full:.0f}"))
    return Levels(-0.05 * end, 1.05 * end, tuple(marks), full)


def _levels(values: Sequence[float]) -> Levels:
    """An axis for losses: tenths of a nat where they lie close, else halves or whole ones."""
    low, high = min(values), max(values)
    step = next(size for size in (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 1e9) if (high - low) / size <= 6)
    first = round(low / step)
    marks = [
        (place * step, f"{place * step:.2f}".rstrip("0").rstrip(".")) for place in range(first, first + 8)
    ]
    room = 0.08 * (high - low) or 0.1
    return Levels(low - room, high + room, tuple(own for own in marks if low - room < own[0] < high + room))


def _written(run: StoriesRun) -> list[tuple[str, list[dict[str, Any]]]]:
    """Stories that models wrote before reFT, to the same instructions, by model."""
    found = []
    for trial in run.trials():
        wanted = trial.arm in READ and trial.seed == 0 and trial.stage in ("as it is", "delete")
        result = run.result(trial) if wanted else None
        if result is not None:
            name = f"{NAMES[trial.arm]} at {trial.rate:g}" if trial.rate else NAMES[trial.arm]
            found.append((name, result["written"][:2]))
    return found


def _paper() -> list[tuple[str, list[str]]]:
    """The paper's Table 1 in percent, row by row, with what its notebook has where that is another number."""
    found = []
    for named, group in paper_twists().group_by("arm", "rate", maintain_order=True):
        arm, rate = named
        name = f"{NAMES[arm]}, η_{rate}" if rate else NAMES[arm]  # pyright: ignore[reportArgumentType]
        cells = []
        for share, own in group.sort("iteration").select("share", "share_in_notebook").iter_rows():
            other = f" (notebook: {100 * own:.0f})" if abs(share - own) > 0.01 else ""
            cells.append(f"{100 * share:.0f}{other}")
        found.append((name, cells))
    return found


def _probes(table: pl.DataFrame) -> list[tuple[str, list[float]]]:
    """Accuracy of the probes for each feature, mean over what blocks give and over seeds; first the floor."""
    if table.is_empty():
        return []
    floors = [table.filter(feature=own)["majority"].mean() for own in FEATURES]
    found = [("always the commoner answer", floors)]
    inside = table.filter(pl.col("residual") > 0)
    for named, group in inside.group_by("arm", "rate", maintain_order=True):
        arm, rate = named
        name = f"{NAMES[arm]} at {rate:g}" if rate else NAMES[arm]  # pyright: ignore[reportArgumentType]
        found.append((name, [group.filter(feature=own)["accuracy"].mean() for own in FEATURES]))
    control = [inside.filter(feature=own)["control"].mean() for own in FEATURES]
    return [*found, ("permuted labels, all models", control)]  # pyright: ignore[reportReturnType]
