"""The first screen of the report: the answer as a sentence, the curves that carry it, and plain words.

One setting leads: the clearest one of the kind of verdict that says most. Its retraining on the old task
(reFT) stands beside models from scratch that are put through the same (Jain et al. 2024, Fig. 9).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from veneer.analysis.evidence import revival_threshold
from veneer.experiments.content import Content
from veneer.experiments.returns import revival_curves
from veneer.experiments.summary import REVIVED
from veneer.report.colours import ROLES
from veneer.report.figures import UpdatesAxis, rate_name
from veneer.report.methods import operands
from veneer.report.tables import Judged

RANKED = (
    "wrapped",
    "rewritten",
    "frozen",
    "too few seeds",
    "mixed evidence",
    "came back",
    "came part of the way",
    "did not come back",
)
"""The kinds of verdict, what says most first; all others say nothing about a capability under a wrapper."""
GERUNDS = {
    "counter": "counting '{}'",
    "pcfg-counter": "counting '{}'",
    "pcfg-indexer": "finding '{}'",
    "max-identifier": "reading the letter of rank {}",
}
ARM_NAMES = {
    "third": "the same model on a task it never had",
    "scratch-ft": "from scratch, after the new task",
    "scratch": "from scratch",
}


@dataclass(frozen=True)
class Curve:
    """One arm's accuracy on the old task while it is trained on it.

    Attributes:
        arm: "reft", or which control.
        steps: updates at which it was evaluated.
        mean: over seeds.
        low: least seed.
        high: greatest seed.
    """

    arm: str
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, step: int) -> float:
        """The mean at an evaluated update, or at the last before it."""
        return self.mean[max(i for i, own in enumerate(self.steps) if own <= step)]


@dataclass(frozen=True)
class Lead:
    """The setting that leads the page.

    Attributes:
        judged: its verdict.
        rate: of retraining: the one at which it is furthest ahead of its controls.
        curve: the retraining.
        controls: models from scratch through the same.
        guess: accuracy of always giving the commonest answer.
    """

    judged: Judged
    rate: float
    curve: Curve
    controls: tuple[Curve, ...]
    guess: float

    @property
    def step(self) -> int:
        """The update that the title speaks of: the first with 90 % of the old task back, else the last."""
        reached = (s for s, v in zip(self.curve.steps, self.curve.mean, strict=True) if v >= REVIVED and s)
        return next(reached, self.curve.steps[-1])

    @property
    def beside(self) -> Curve | None:
        """The control that retraining is held against."""
        by_arm = {own.arm: own for own in self.controls}
        return next((by_arm[arm] for arm in ("third", "scratch-ft", "scratch") if arm in by_arm), None)

    @property
    def ahead(self) -> float:
        """How far retraining is ahead of the best control at that update; of guessing without controls."""
        return self.curve.at(self.step) - max(
            (own.at(self.step) for own in self.controls), default=self.guess
        )


def plain_names(experiment: dict[str, Any]) -> dict[str, str]:
    """The tasks in plain words: ``old`` and ``new`` (count of 'a'), and ``doing`` the old (counting 'a')."""
    asked, settings = operands(experiment), experiment["fields"]
    of = settings.get("operand_pt", settings.get("rank_pt", ""))
    doing = GERUNDS.get(experiment["name"], "the old task").format(of)
    return {"old": asked["pt"], "new": asked["ft"], "doing": doing}


def find_lead(content: Content, found: Sequence[Judged]) -> Lead | None:
    """The clearest setting with a finished retraining; None without any."""
    if content.metrics is None or not content.baselines:
        return None
    curves = revival_curves(content.metrics).filter(pl.col("status") == "done")
    best: dict[str, Lead] = {}
    for judged in found:
        made = _lead(content, judged, curves)
        if made is None:
            continue
        kind = judged.kind
        kept = best.get(kind)
        closer = kind in ("rewritten", "did not come back")
        if kept is None or (-abs(made.ahead) if closer else made.ahead) > (
            -abs(kept.ahead) if closer else kept.ahead
        ):
            best[kind] = made
    ranked = [kind for kind in RANKED if kind in best] + [kind for kind in best if kind not in RANKED]
    return best[ranked[0]] if ranked else None


def _lead(content: Content, judged: Judged, curves: pl.DataFrame) -> Lead | None:
    verdict = judged.curves
    same = curves.filter(pl.col("capability") == verdict.capability)
    own = same.filter(
        (pl.col("arm") == "reft")
        & (pl.col("fine_tuning_rate") == verdict.fine_tuning_rate)
        & (pl.col("c_tr") == verdict.c_tr)
    )
    guess, made = content.baselines[verdict.capability]["natural"]["majority"]["pt"], []
    for (rate,), rows in own.group_by(["learning_rate"], maintain_order=True):
        here = (pl.col("fine_tuning_rate") == verdict.fine_tuning_rate) & (pl.col("c_tr") == verdict.c_tr)
        fair = pl.col("arm").is_in(["scratch", "scratch-ft"]) | ((pl.col("arm") == "third") & here)
        beside = same.filter((pl.col("learning_rate") == rate) & fair)
        controls = [
            curve_of(str(arm), part) for (arm,), part in beside.group_by(["arm"], maintain_order=True)
        ]
        made.append(Lead(judged, float(str(rate)), curve_of("reft", rows), tuple(controls), guess))
    return max(made, key=lambda lead: lead.ahead, default=None)


def curve_of(arm: str, rows: pl.DataFrame) -> Curve:
    """Mean, least and greatest over seeds at every evaluated update."""
    summed = (
        rows.group_by("step")
        .agg(mean=pl.col("value").mean(), low=pl.col("value").min(), high=pl.col("value").max())
        .sort("step")
    )
    return Curve(arm, *(tuple(summed[name].to_list()) for name in ("step", "mean", "low", "high")))


def title(experiment: dict[str, Any], lead: Lead | None) -> str:
    """The answer as a sentence."""
    names = plain_names(experiment)
    if lead is None:
        return f"Is {names['doing']} gone, or only hidden?"
    verdict, step = lead.judged.curves, lead.step
    there = f"At rate {rate_name(verdict.fine_tuning_rate)} {names['doing']}"
    back = f"{step:,} update{'s' if step != 1 else ''}"
    now, beside = _percent(lead.curve.at(step)), _beside(lead)
    match lead.judged.kind:
        case "wrapped":
            return f"{there} is only hidden: {back} bring {now} of it back{beside}"
        case "rewritten":
            return f"{there} is gone: {back} bring it to {now}{beside}"
        case "unchanged" | "never left":
            return f"{there} was never lost: {_percent(verdict.before or 0)} of it is left"
        case "not fine-tuned" | "diverged" | "not reFTed" | "not finished":
            return f"Is {names['doing']} gone, or only hidden? Nothing can be said yet"
        case "did not come back":
            return f"{there} does not come back: {back} bring it to {now}{beside}"
        case "came back":
            return f"{there} comes back: {back} bring {now} of it{beside}"
        case "frozen":
            return f"{there} cannot be judged: the model learns nothing any more ({back}: {now}{beside})"
        case _ if lead.judged.leaning == "wrapped":
            return f"{there} seems only hidden: {back} bring {now} of it back{beside}"
        case _ if lead.judged.leaning == "rewritten":
            return f"{there} seems gone: {back} bring it to {now}{beside}"
    return f"{there} is not decided yet: {back} bring it to {now}{beside}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _beside(lead: Lead) -> str:
    values = sorted(own.at(lead.step) for own in lead.controls if own.arm != "third")
    if not values:
        return ""
    low, high = f"{100 * values[0]:.0f}", f"{100 * values[-1]:.0f}"
    return f"; from scratch they bring {low if low == high else f'{low} to {high}'} %"


def figure(lead: Lead) -> dict[str, Any]:
    """Retraining against from scratch, the verdict's threshold drawn, the area between shaded."""
    axis = UpdatesAxis(lead.curve.steps)
    control = lead.beside
    traces: list[dict[str, Any]] = []
    if control is not None:
        grid = [step for step in lead.curve.steps if step in control.steps]
        places = [axis.place(step) for step in grid]
        both = [
            own.at(step)
            for own in (lead.curve, control)
            for step in (grid if own is lead.curve else grid[::-1])
        ]
        traces.append(_area(places + places[::-1], both, ROLES["revived"], 0.16))
    for own in (*lead.controls, lead.curve):
        traces.append(_line(own, axis, lead.rate))
    guess, threshold = lead.guess, revival_threshold(lead.guess)
    marks = (("counts as back", threshold, "dash"), ("guessing", guess, "dot"))
    layout = {
        "height": 340,
        "margin": {"l": 44, "r": 12, "t": 8, "b": 76},
        "dragmode": False,
        "hovermode": "closest",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        "xaxis": {**axis.layout(), "title": {"text": "updates of retraining on the old task", "standoff": 4}},
        "yaxis": {
            "range": [-0.02, 1.04],
            "tickvals": [0, 0.25, 0.5, 0.75, 1],
            "tickformat": ".0%",
            "gridcolor": ROLES["grid"],
            "zeroline": False,
            "fixedrange": True,
        },
        "shapes": [_level(value, dash) for _, value, dash in marks],
        "annotations": [_note(text, value) for text, value, _ in marks],
    }
    return {"data": traces, "layout": layout}


def _line(own: Curve, axis: UpdatesAxis, rate: float) -> dict[str, Any]:
    role, dash, symbol, width = {
        "reft": ("revived", "solid", "circle", 4),
        "third": ("after", "dashdot", "square", 2.5),
        "scratch-ft": ("scratch-new", "dash", "triangle-up", 2.5),
    }.get(own.arm, ("scratch", "dot", "triangle-down", 2.5))
    name = f"retraining at {rate_name(rate)}" if own.arm == "reft" else ARM_NAMES.get(own.arm, own.arm)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [axis.place(step) for step in own.steps],
        "y": list(own.mean),
        "customdata": list(zip(own.steps, own.low, own.high, strict=True)),
        "line": {"color": ROLES[role], "width": width, "dash": dash},
        "marker": {"color": ROLES[role], "size": width + 3, "symbol": symbol},
        "hovertemplate": f"{name}<br>update %{{customdata[0]}}: %{{y:.0%}} (seeds %{{customdata[1]:.0%}} to "
        "%{customdata[2]:.0%})<extra></extra>",
    }


def _area(x: list[float], y: list[float], colour: str, opacity: float) -> dict[str, Any]:
    fill = {"fill": "toself", "fillcolor": colour, "opacity": opacity, "line": {"width": 0}}
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        **fill,
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _level(value: float, dash: str) -> dict[str, Any]:
    ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value}
    return {"type": "line", **ends, "line": {"color": ROLES["threshold"], "width": 1.2, "dash": dash}}


def _note(text: str, value: float) -> dict[str, Any]:
    at = {"xref": "paper", "x": 0.01, "y": value, "xanchor": "left", "yanchor": "bottom"}
    return {"text": f"{text} ({value:.0%})", **at, "showarrow": False, "font": {"size": 11}}
