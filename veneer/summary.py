"""A run in one table and a few sentences, as plain values for the terminal and the report."""

from dataclasses import dataclass

import polars as pl

from veneer.paper import table_3
from veneer.store import Run, read_json

REVIVED = 0.9  # O_PT accuracy after reFT from which a sentence says that the capability came back


@dataclass(frozen=True)
class Summary:
    """A table to show: titles and cells are text, ready to print."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str


def final_accuracies(run: Run) -> pl.DataFrame:
    """Accuracy after the last update of every cell.

    Returns:
        The identifying columns of ``Run.metrics``, texts, operand, value (seed by seed).
    """
    metrics = run.metrics().filter(pl.col("measure") == "accuracy")
    last = pl.col("step") == pl.col("step").max().over("cell")
    return metrics.filter(last).drop("step", "measure")


def fine_tuning_grid(run: Run) -> pl.DataFrame:
    """Final accuracies of fine-tuning by rate, C_Tr, C_Te and operand, with the paper's.

    Returns:
        Columns learning_rate, c_tr, c_te (1 correlated, 0 uncorrelated), operand, value (mean over
        seeds), seeds, paper (null where the paper has no such cell) and status (the diverged seeds
        named, or "done").
    """
    final = final_accuracies(run).filter(
        (pl.col("stage") == "fine-tune") & pl.col("texts").is_in(["correlated", "uncorrelated"])
    )
    grouped = (
        final.with_columns(c_te=(pl.col("texts") == "correlated").cast(pl.Int64))
        .group_by("learning_rate", "c_tr", "c_te", "operand")
        .agg(
            value=pl.col("value").mean(),
            seeds=pl.len(),
            status=pl.col("status").filter(pl.col("status") != "done").first().fill_null("done"),
        )
    )
    paper = table_3(run.experiment["name"]).unpivot(
        ["acc_operand_pt", "acc_operand_ft"],
        index=["learning_rate", "c_tr", "c_te"],
        variable_name="operand",
        value_name="paper",
    )
    paper = paper.with_columns(operand=pl.col("operand").str.strip_prefix("acc_operand_"))
    joined = grouped.join(paper, on=["learning_rate", "c_tr", "c_te", "operand"], how="left")
    return joined.sort(["learning_rate", "c_tr", "c_te", "operand"], descending=[True, False, True, True])


def revivals(run: Run) -> pl.DataFrame:
    """O_PT accuracy on natural text after fine-tuning and after each reFT.

    Returns:
        Columns fine_tuning_rate, c_tr, reft_rate, before, after (means over seeds), updates_to_90
        (evaluated update at which the mean first reaches 90 %, null if it never does), seeds.
    """
    accuracy = run.metrics().filter(
        (pl.col("measure") == "accuracy")
        & (pl.col("texts") == "natural")
        & (pl.col("operand") == "pt")
        & (pl.col("stage") == "reft")
    )
    keys = ["fine_tuning_rate", "c_tr", "learning_rate"]
    curve = accuracy.group_by(*keys, "step").agg(value=pl.col("value").mean(), seeds=pl.len()).sort(*keys, "step")
    return (
        curve.group_by(keys, maintain_order=True)
        .agg(
            before=pl.col("value").first(),
            after=pl.col("value").last(),
            updates_to_90=pl.col("step").filter(pl.col("value") >= REVIVED).first(),
            seeds=pl.col("seeds").first(),
        )
        .rename({"learning_rate": "reft_rate"})
        .sort(["fine_tuning_rate", "c_tr", "reft_rate"], descending=[True, False, True])
    )


def summary_table(run: Run) -> Summary:
    """Final accuracies by rate and C_Tr, the paper's in brackets, and O_PT after each reFT."""
    grid, back = fine_tuning_grid(run), revivals(run)
    reft_rates = back["reft_rate"].unique().sort(descending=True).to_list()
    heads = [f"C_Te={c} {o}" for c in (1, 0) for o in ("O_PT", "O_FT")]
    columns = ["rate", "C_Tr", *heads, *[f"O_PT after reFT {rate:g}" for rate in reft_rates]]
    rows = []
    for rate, c_tr in grid.select("learning_rate", "c_tr").unique(maintain_order=True).iter_rows():
        cells = grid.filter((pl.col("learning_rate") == rate) & (pl.col("c_tr") == c_tr))
        row = [f"{rate:g}", f"{c_tr:g}"]
        for c_te in (1, 0):
            for operand in ("pt", "ft"):
                cell = cells.filter((pl.col("c_te") == c_te) & (pl.col("operand") == operand)).row(0, named=True)
                paper = "" if cell["paper"] is None else f" ({100 * cell['paper']:.0f})"
                mark = "" if cell["status"] == "done" else "*"
                row.append(f"{100 * cell['value']:.1f}{mark}{paper}")
        for reft in reft_rates:
            found = back.filter(
                (pl.col("fine_tuning_rate") == rate) & (pl.col("c_tr") == c_tr) & (pl.col("reft_rate") == reft)
            )
            row.append("–" if found.is_empty() else f"{100 * found['after'][0]:.1f}")
        rows.append(row)
    baselines = read_json(run.path / "baselines.json")["texts"]
    natural, uncorrelated = baselines["natural"]["majority"], baselines["uncorrelated"]["majority"]
    caption = (
        "Accuracy in percent after the last update; in brackets the paper's Table 3. reFT columns: on natural text. "
        f"Always answering the commonest class gives O_PT {natural['pt']:.0%} on natural text, "
        f"O_PT {uncorrelated['pt']:.0%} and O_FT {uncorrelated['ft']:.0%} at C_Te=0."
    )
    diverged = sorted({cell["status"] for cell in run.cells()} - {"done"})
    if diverged:
        caption += f" * {', '.join(diverged)}."
    return Summary("Fine-tuning, then reFT", columns, rows, caption)


def revival_sentences(run: Run) -> list[str]:
    """What the reFT curves support, one sentence for each C_Tr and rate of fine-tuning."""
    sentences = []
    majority = read_json(run.path / "baselines.json")["texts"]["natural"]["majority"]["pt"]
    back = revivals(run)
    for (rate, c_tr), group in back.group_by(["fine_tuning_rate", "c_tr"], maintain_order=True):
        best = group.sort("after", descending=True).row(0, named=True)
        head = f"Fine-tuned at {rate:g} with C_Tr = {c_tr:g}:"
        if best["before"] >= REVIVED:
            verdict = f"O_PT never left ({best['before']:.0%} after fine-tuning)."
        elif best["after"] >= REVIVED:
            verdict = (
                f"wrapped. O_PT comes back from {best['before']:.0%} to {best['after']:.0%} with reFT at "
                f"{best['reft_rate']:g}, reaching 90 % by update {best['updates_to_90']}."
            )
        elif best["after"] <= max(best["before"], majority) + 0.15:
            verdict = (
                f"not revived. reFT takes O_PT from {best['before']:.0%} to {best['after']:.0%} at best; "
                f"guessing gives {majority:.0%}."
            )
        else:
            verdict = f"undecided. reFT takes O_PT from {best['before']:.0%} to {best['after']:.0%} at best."
        sentences.append(f"{head} {verdict}")
    return sentences
