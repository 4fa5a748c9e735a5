"""The verdicts as the last thing on the screen: the word, what it is about, and what decided."""

import polars as pl

from veneer.analysis.verdict import DECIDED, RULE_VERSION
from veneer.commands.manners import current
from veneer.commands.screen import Table, console, styled
from veneer.experiments.evidence import known
from veneer.report.colours import terminal_style

MEANS = {
    "wrapped": "the old capability is still there",
    "rewritten": "the old capability is gone",
    "frozen": "the model learns nothing any more, so nothing can be said",
    "unchanged": "the old capability was not touched",
    "not fine-tuned": "the new task was not learned",
    "diverged": "training broke off",
    "too few seeds": "leans one way, but seeds scatter",
    "mixed evidence": "the evidence is missing, or points both ways",
}
"""What each verdict means, in a line."""
FIRST = ("wrapped", "rewritten")


def show_verdicts(table: pl.DataFrame) -> None:
    """Print the verdicts of a run: settings that fine-tuning wrapped or rewrote first.

    Args:
        table: ``veneer.experiments.evidence.verdict_table``.
    """
    own = table.filter(pl.col("start") == "capability")
    several = own["capability"].n_unique() > 1
    rows = sorted(own.to_dicts(), key=lambda row: _place(row["kind"]))
    shown = Table(title="What fine-tuning did to O_PT", title_justify="left", box=None, padding=(0, 1))
    for name in (*(["model"] if several else []), "fine-tuned at", "C_Tr"):
        shown.add_column(name, no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    shown.add_column("because", overflow="fold", ratio=1)
    for row in rows:
        model = [row["capability"]] if several else []
        leans = f" Leans towards {row['leaning']}." if row["kind"] not in DECIDED and row["leaning"] else ""
        because = styled(f"{MEANS[row['kind']]}. ", (row["reasons"][0], "dim"), leans)
        setting = (f"{row[name]:g}" for name in ("fine_tuning_rate", "c_tr"))
        strength = "" if row["strength"] in ("none", "moderate") else f" ({row['strength']})"
        shown.add_row(
            *model, *setting, styled((f" {row['kind']} ", terminal_style(row["kind"])), strength), because
        )
    console.print(shown)
    open_rows = [row for row in rows if row["decides"]]
    for row in open_rows[:1] if not current().quiet else ():
        more = f" (the first of {len(open_rows)} that are open)" if len(open_rows) > 1 else ""
        console.print(f"to decide{more}: {row['decides']}", soft_wrap=True)
    show_calibration(table)
    console.print(f"rule {RULE_VERSION}; docs/verdict.md has it in plain words", style="dim")


def _place(kind: str) -> int:
    return FIRST.index(kind) if kind in FIRST else len(FIRST) + (kind not in DECIDED)


def show_calibration(verdicts: pl.DataFrame) -> None:
    """How the rule does on the models whose truth is known by construction, where there are any."""
    truths, found = known(verdicts)
    if not truths:
        return
    pairs = list(zip(truths, found, strict=True))
    right = sum(truth == kind for truth, kind in pairs)
    swapped = sum(set(pair) == {"wrapped", "rewritten"} for pair in pairs)
    console.print(
        f"constructed models: {right} of {len(truths)} verdicts right, {len(truths) - right - swapped} "
        f"open or other, {swapped} taken for the opposite"
    )
