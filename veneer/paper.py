"""The paper's tables, for comparison beside ours: Jain et al. 2024 (arXiv 2311.12786v2)."""

from pathlib import Path

import polars as pl

DATA = Path(__file__).parent / "data"


def table_3(task: str) -> pl.DataFrame:
    """Table 3, fine-tuning of compiled models.

    Args:
        task: "counter" or "max-identifier".

    Returns:
        Columns learning_rate, c_tr, c_te, acc_operand_pt, acc_operand_ft (accuracies in [0, 1]).
    """
    table = pl.read_csv(DATA / "table3_compiled_finetuning.csv")
    accuracies = pl.col("acc_operand_pt", "acc_operand_ft") / 100
    return table.filter(pl.col("task") == task.replace("-", "_")).drop("task").with_columns(accuracies)
