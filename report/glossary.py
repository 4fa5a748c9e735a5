"""The report's words, the papers' symbols for them, and what they mean."""

from typing import Any

from veneer.report.answer import plain_names


def glossary(experiment: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Word, symbol, meaning."""
    names, q = plain_names(experiment), experiment["fields"]["q"]
    agrees = "both answers agree" if q is None else f"the old answer {q:+d} is right for the new task too"
    return [
        ("old task", "O_PT", f"What the model can do before fine-tuning: {names['old']}."),
        ("new task", "O_FT", f"What fine-tuning teaches: {names['new']}."),
        (
            "shortcut share",
            "C_Tr",
            f"Share of fine-tuning samples on which {agrees}.",
        ),
        ("tested where the shortcut works or fails", "C_Te", "Texts on which it always (1) or never (0) is."),
        ("retraining on the old task", "reFT", "What tells hidden from gone: how soon the old task returns."),
        ("from scratch", "Scr.", "A control: a model with random weights, trained on the old task."),
        (
            "from scratch, after the new task",
            "Scr. + FT",
            "A control: random weights, taught the new task, then the old one.",
        ),
        (
            "a task it never had",
            "third operand",
            "What the verdict holds the return against: the same model, trained on another operand.",
        ),
        ("hidden", "wrapped", "The old task comes back much sooner than a task that the model never had."),
        ("gone", "rewritten", "Learning the old task again takes as long as one that it never had."),
    ]
