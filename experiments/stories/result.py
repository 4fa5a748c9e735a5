"""What a run of stories comes to: tables as Parquet, verdicts as JSON, and rows for a terminal or a page."""

from dataclasses import dataclass

import polars as pl

from veneer.analysis.binomial import wilson
from veneer.experiments.stories.evidence import Measured, Outcome
from veneer.experiments.stories.settings import NAMES, Arm
from veneer.experiments.stories.store import StoriesRun
from veneer.models.files import write_json, write_table
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Row:
    """One arm in a table like the paper's Table 1.

    Attributes:
        arm: which.
        rate: of its deletion; 0 where nothing is deleted.
        shares: by the updates of reFT, the share of written stories with the feature, over all seeds.
        intervals: Wilson's of each.
        others: after the deletion, of the other features asked for those that are there.
        loss: nats a token on stories with the feature, before reFT and after it.
        verdict: the word, and what it leans towards.
    """

    arm: Arm
    rate: float
    shares: dict[int, float]
    intervals: dict[int, tuple[float, float]]
    others: float | None
    loss: tuple[float | None, float | None]
    verdict: str

    @property
    def name(self) -> str:
        """The arm and its rate."""
        return f"{NAMES[self.arm]} at {self.rate:g}" if self.rate else NAMES[self.arm]


def conclude(run: StoriesRun) -> list[Outcome]:
    """Judge what is there, and write tables and verdicts.

    Raises:
        InputError: nothing has been measured, or the pretrained model does not write the feature.
    """
    measured = Measured(run)
    if measured.curves.is_empty():
        raise InputError("run", str(run.path), "a run with a trial that is done")
    full = measured.as_it_is("present")
    if full is not None and measured.bounds is None:
        problem = f"{100 * full:.0f} % of what it writes has a {run.settings.feature} when asked for one"
        raise InputError("present", run.settings.present, "a model that writes the feature", problem)
    write_table(run.path / "curves.parquet", measured.curves)
    write_table(run.path / "probes.parquet", run.probes())
    outcomes = measured.outcomes
    write_json(run.path / "verdicts.json", [own.plain() for own in outcomes])
    return outcomes


def rows(run: StoriesRun, outcomes: list[Outcome]) -> list[Row]:
    """Every arm, controls last, as far as it is measured."""
    measured = Measured(run)
    words = {(own.arm, own.rate): _word(own) for own in outcomes}
    found = []
    for arm, rate in sorted(measured.arms, key=lambda own: own[0] in ("never", "scratch")):
        shares, intervals = _shares(measured, arm, rate)
        if not shares:
            continue
        losses = (
            measured.curve(arm, rate, "loss_with").group_by("step").agg(pl.col("value").mean()).sort("step")
        )
        others = measured.curve(arm, rate, "others").filter(pl.col("step") == 0)["value"]
        kept = None if others.is_empty() else float(others.mean())  # pyright: ignore[reportArgumentType]
        ends = (float(losses["value"][0]), float(losses["value"][-1])) if len(losses) else (None, None)
        found.append(Row(arm, rate, shares, intervals, kept, ends, words.get((arm, rate), "")))
    return found


def _word(outcome: Outcome) -> str:
    return f"{outcome.kind}, leaning {outcome.leaning}" if outcome.leaning else outcome.kind


def _shares(
    measured: Measured, arm: Arm, rate: float
) -> tuple[dict[int, float], dict[int, tuple[float, float]]]:
    """By updates of reFT, the share over all seeds and its interval."""
    texts = measured.settings.generations
    by_step = measured.curve(arm, rate).group_by("step").agg(hits=(pl.col("value") * texts).sum(), n=pl.len())
    shares, intervals = {}, {}
    for step, hits, seeds in by_step.sort("step").iter_rows():
        count, of = round(hits), texts * seeds
        shares[step], intervals[step] = count / of, wilson(count, of)
    return shares, intervals
