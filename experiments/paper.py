"""The paper's tables, for comparison beside ours: Jain et al. 2024 (arXiv 2311.12786v2)."""

from pathlib import Path

import polars as pl

DATA = Path(__file__).parent / "data"


PRIOR_OF_A = {"L": 0.999, "M": 0.9, "H": 0.5}
COLUMNS = ["capability", "learning_rate", "c_tr", "c_te", "acc_operand_pt", "acc_operand_ft"]


def paper_table(experiment: str) -> pl.DataFrame:
    """The paper's accuracies after fine-tuning for an experiment of ours.

    Args:
        experiment: "counter" or "max-identifier" (Table 3), "pcfg-counter" (Table 5, 200 K iterations
            of pretraining, after 10 K of fine-tuning), or another name, for which there is none.

    Returns:
        Columns capability ("compiled", or the prior's name L, M, H), learning_rate, c_tr, c_te,
        acc_operand_pt, acc_operand_ft (accuracies in [0, 1]).
    """
    if experiment == "pcfg-counter":
        table = pl.read_csv(DATA / "table5_pcfg_counter_200k.csv").filter(pl.col("iteration") == 10_000)
        names = {prior: name for name, prior in PRIOR_OF_A.items()}
        table = table.with_columns(capability=pl.col("prior_a").replace_strict(names, return_dtype=pl.String))
    else:
        table = pl.read_csv(DATA / "table3_compiled_finetuning.csv")
        table = table.filter(pl.col("task") == experiment.replace("-", "_"))
        table = table.with_columns(capability=pl.lit("compiled"))
    return table.with_columns(pl.col("acc_operand_pt", "acc_operand_ft") / 100).select(COLUMNS)


def paper_name(experiment: str) -> str:
    """Which table that is."""
    return "Table 5" if experiment == "pcfg-counter" else "Table 3"
