"""A run in one table, as plain values for the terminal and the report.

A mean is over the seeds that did not diverge, and says how many did: a diverged seed has no accuracy
after its last update, but that it diverged is a result.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from veneer.analysis.revival import threshold_times
from veneer.experiments.model_names import model_name
from veneer.experiments.paper import SAME, comparable_table, paper_name, paper_rate, paper_size
from veneer.experiments.shapes import MAJORITIES
from veneer.experiments.store import Run
from veneer.models.display import table
from veneer.models.files import read_json
from veneer.tasks.errors import InputError

REVIVED = 0.9  # O_PT accuracy after reFT from which it counts as back


@dataclass(frozen=True)
class Summary:
    """A table to show: titles and cells are text, ready to print."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str

    def _repr_html_(self) -> str:
        return table(self.title, self.rows, self.columns, self.caption)


def final_accuracies(run: Run) -> pl.DataFrame:
    """Accuracy after the last update of every cell.

    Returns:
        The columns of ``store.KEYS``, texts, operand, value (seed by seed).
    """
    metrics = run.metrics().filter(pl.col("measure") == "accuracy")
    last = pl.col("step") == pl.col("step").max().over("cell")
    return metrics.filter(last).drop("step", "measure")


def fine_tuning_grid(run: Run) -> pl.DataFrame:
    """Final accuracies of fine-tuning by rate, C_Tr, C_Te and operand, with the paper's.

    Returns:
        Columns capability, learning_rate, c_tr, c_te (1 correlated, 0 uncorrelated), operand, value
        (mean over the seeds that did not diverge, null if all did), seeds (how many did not), diverged
        (how many did), status ("done", or how many diverged, in words), paper_rate (the paper's rate that
        this one is held against, see ``paper.paper_rate``) and paper (null where the paper has no such
        cell). Controls are left out.
    """
    final = final_accuracies(run).filter(
        (pl.col("stage") == "fine-tune")
        & (pl.col("start") == "capability")
        & pl.col("texts").is_in(["correlated", "uncorrelated"])
    )
    grouped = (
        final.with_columns(c_te=(pl.col("texts") == "correlated").cast(pl.Int64))
        .group_by("capability", "learning_rate", "c_tr", "c_te", "operand")
        .agg(*_over_seeds(), broken=pl.col("status").filter(pl.col("status") != "done").sort())
    ).with_columns(
        status=pl.struct("broken", "seeds").map_elements(_status, return_dtype=pl.String),
    )
    fields = run.experiment["fields"]
    held = {rate: paper_rate(fields, rate) for rate in grouped["learning_rate"].unique()}
    grouped = grouped.with_columns(
        paper_rate=pl.col("learning_rate").replace_strict(held, return_dtype=pl.Float64)
    )
    paper = comparable_table(run.experiment).rename({"learning_rate": "paper_rate"})
    on = ["capability", "paper_rate", "c_tr", "c_te"]
    paper = paper.unpivot(
        ["acc_operand_pt", "acc_operand_ft"], index=on, variable_name="operand", value_name="paper"
    )
    paper = paper.with_columns(operand=pl.col("operand").str.strip_prefix("acc_operand_"))
    joined = grouped.drop("broken").join(paper, on=[*on, "operand"], how="left")
    order = {name: i for i, name in enumerate(capability_names(fields))}
    place = pl.col("capability").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    return joined.sort(
        place, "learning_rate", "c_tr", "c_te", "operand", descending=[False, True, False, True, True]
    )


def _over_seeds() -> list[pl.Expr]:
    """Mean of ``value`` over the cells that did not diverge, their number, and that of those that did."""
    done = pl.col("status") == "done"
    return [
        pl.col("value").filter(done).mean(),
        done.sum().cast(pl.Int64).alias("seeds"),
        (~done).sum().cast(pl.Int64).alias("diverged"),
    ]


def _status(cells: dict[str, Any]) -> str:
    """What became of a setting's seeds, in words."""
    broken, seeds = cells["broken"], cells["seeds"] + len(cells["broken"])
    if not broken:
        return "done"
    if seeds == 1:
        return broken[0]
    return f"{len(broken)} of {seeds} {broken[0] if len(broken) == 1 else 'diverged'}"


def capability_names(settings: dict[str, Any]) -> list[str]:
    """The capabilities of an experiment as cells and reports name them, in order."""
    words = settings.get("pretrained", ["compiled"])
    return list(dict.fromkeys(map(model_name, words)))


def revival_curves(run: Run) -> pl.DataFrame:
    """O_PT accuracy on natural text during every reFT: the rows of ``Run.metrics`` with step and value."""
    return run.metrics().filter(
        (pl.col("measure") == "accuracy")
        & (pl.col("texts") == "natural")
        & (pl.col("operand") == "pt")
        & (pl.col("stage") == "reft")
        & (pl.col("start") == "capability")
    )


def revivals(run: Run) -> pl.DataFrame:
    """O_PT accuracy on natural text after fine-tuning and after each reFT.

    Returns:
        Columns capability, fine_tuning_rate, c_tr, reft_rate, before, after (means over the seeds that did
        not diverge, null if all did), updates_to_90 (update from which on the mean holds 90 %, null if
        there is none), seeds (how many did not diverge), diverged (how many did).
    """
    accuracy = revival_curves(run)
    keys = ["capability", "fine_tuning_rate", "c_tr", "learning_rate"]
    curve = accuracy.group_by(*keys, "step").agg(_over_seeds())
    alive = curve.filter(pl.col("value").is_not_null()).with_columns(seed=0)
    held = threshold_times(alive.select(*keys, "seed", "step", "value"), keys, [REVIVED])
    held = held.filter("reached").select(*keys, updates_to_90="time")
    return (
        curve.sort(*keys, "step")
        .group_by(keys, maintain_order=True)
        .agg(
            before=pl.col("value").first(),
            after=pl.col("value").last(),
            seeds=pl.col("seeds").first(),
            diverged=pl.col("diverged").first(),
        )
        .join(held, on=keys, how="left")
        .rename({"learning_rate": "reft_rate"})
        .sort(["capability", "fine_tuning_rate", "c_tr", "reft_rate"], descending=[False, True, False, True])
    )


def summary_table(run: Run) -> Summary:
    """Final accuracies by rate and C_Tr, the paper's in brackets, and O_PT after each reFT.

    Each capability's first row is what it does before fine-tuning: texts into which a correlation is
    edited are unlike natural ones, and a learned capability need not carry over to them.
    """
    grid, back = fine_tuning_grid(run), revivals(run)
    reft_rates = back["reft_rate"].unique().sort(descending=True).to_list()
    heads = [f"C_Te={c} {o}" for c in (1, 0) for o in ("O_PT", "O_FT")]
    several = len(capability_names(run.experiment["fields"])) > 1
    columns = ["rate", "C_Tr", *heads, *[f"O_PT after reFT {rate:g}" for rate in reft_rates]]
    rows: list[list[str]] = []
    start = before(run)
    places = [(texts, operand) for texts in ("correlated", "uncorrelated") for operand in ("pt", "ft")]
    settings = grid.select("capability", "learning_rate", "c_tr").unique(maintain_order=True)
    for capability, rate, c_tr in settings.iter_rows():
        if capability in start:
            known = start.pop(capability)
            accuracies = [_marked(known[place], 0) for place in places]
            named = [capability] if several else []
            rows.append([*named, "before", "", *accuracies, *("" for _ in reft_rates)])
        own = (pl.col("capability") == capability) & (pl.col("c_tr") == c_tr)
        cells = grid.filter(own & (pl.col("learning_rate") == rate))
        row = [*([capability] if several else []), f"{rate:g}", f"{c_tr:g}"]
        for c_te in (1, 0):
            for operand in ("pt", "ft"):
                cell = cells.filter((pl.col("c_te") == c_te) & (pl.col("operand") == operand)).row(
                    0, named=True
                )
                paper = "" if cell["paper"] is None else f" ({100 * cell['paper']:.0f})"
                row.append(_marked(cell["value"], cell["diverged"]) + paper)
        for reft in reft_rates:
            found = back.filter(own & (pl.col("fine_tuning_rate") == rate) & (pl.col("reft_rate") == reft))
            row.append("–" if found.is_empty() else _marked(found["after"][0], found["diverged"][0]))
        rows.append(row)
    baselines = first_baselines(run)
    natural, uncorrelated = baselines["natural"]["majority"], baselines["uncorrelated"]["majority"]
    paper = f"; in brackets the paper's {paper_name(run.experiment['name'])}{paper_size(run.experiment)}"
    paper += _other_rates(grid)
    caption = (
        f"Accuracy in percent after the last update{paper if grid['paper'].is_not_null().any() else ''}. "
        f"{'reFT columns: on natural text. ' if reft_rates else ''}"
        f"Always answering the commonest class gives O_PT {natural['pt']:.0%} on natural text, "
        f"O_PT {uncorrelated['pt']:.0%} and O_FT {uncorrelated['ft']:.0%} at C_Te=0."
    )
    caption += _remark(run)
    title = "Fine-tuning, then reFT" if reft_rates else "Fine-tuning"
    return Summary(title, [*(["model"] if several else []), *columns], rows, caption)


def _other_rates(grid: pl.DataFrame) -> str:
    """Which of the paper's rates ours are held against, where they are not the same."""
    met = grid.filter(pl.col("paper").is_not_null()).select("learning_rate", "paper_rate").unique()
    pairs = sorted(met.iter_rows(), reverse=True)
    if all(abs(ours / theirs - 1) < SAME for ours, theirs in pairs):
        return ""
    told = ", ".join(f"{ours:g} as {theirs:g}" for ours, theirs in pairs)
    return f" for 10,000 updates at what moves a weight as far ({told})"


def before(run: Run) -> dict[str, dict[tuple[str, str], float]]:
    """What each capability does before fine-tuning: accuracy by (texts, operand), means over seeds."""
    first = run.metrics().filter(
        (pl.col("stage") == "fine-tune")
        & (pl.col("start") == "capability")
        & (pl.col("measure") == "accuracy")
        & (pl.col("step") == 0)
    )
    found: dict[str, dict[tuple[str, str], float]] = {}
    means = first.group_by("capability", "texts", "operand").agg(pl.col("value").mean())
    for name, texts, operand, value in means.sort("capability").iter_rows():
        found.setdefault(name, {})[texts, operand] = value
    return found


def _marked(value: float | None, diverged: int) -> str:
    return ("–" if value is None else f"{100 * value:.1f}") + ("*" if diverged else "")


def _remark(run: Run) -> str:
    """What the table's marks mean; nothing if there are none."""
    own = run.metrics().filter((pl.col("start") == "capability") & (pl.col("status") != "done"))
    broken = sorted(own.select("cell", "status").unique()["status"].to_list())
    if not broken:
        return ""
    cells = "1 cell" if len(broken) == 1 else f"{len(broken)} cells"
    return f" * Without the seeds that diverged, named below ({cells}: {', '.join(dict.fromkeys(broken))})."


def first_baselines(run: Run) -> dict[str, Any]:
    """Baselines by kind of text; of a run of several tasks those of the first."""
    file = run.path / "baselines.json"
    found = read_json(file, MAJORITIES)
    if not found:
        raise InputError("file", str(file), "the baselines of a run's tasks", "it has none")
    return next(iter(found.values()))["texts"]
