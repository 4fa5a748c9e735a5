"""What a run looks like in a notebook: no script, nothing loaded, all text escaped."""

from pathlib import Path
from typing import Any

from veneer.experiments.analysis_tables import read_analysis
from veneer.models.display import table
from veneer.models.files import read_json
from veneer.tasks.errors import InputError


def run_html(folder: Path, done: int) -> str:
    """A run: its experiment, how far it is, and its verdicts where ``veneer analyse`` made them.

    Args:
        folder: the run's.
        done: how many of its cells are finished.
    """
    try:
        experiment = read_json(folder / "experiment.json")
        title = f"{experiment['name']} ({experiment['preset']})"
        return table(title, _facts(folder, experiment, done)) + _verdicts(folder)
    except (InputError, KeyError, TypeError):
        name = folder.resolve().name
        return table("no run", [("folder", name), ("problem", "its experiment.json is missing or damaged")])


def run_text(folder: Path, done: int) -> str:
    """A run in one line: folder, experiment, how far it is, and what was looked into.

    Args:
        folder: the run's.
        done: how many of its cells are finished.
    """
    try:
        experiment = read_json(folder / "experiment.json")
        words = [f"{experiment['name']} ({experiment['preset']})", *experiment.get("axes", {})]
    except (InputError, KeyError, TypeError):
        return f"Run({str(folder)!r}: its experiment.json is missing or damaged)"
    tables = len(list((folder / "analysis").glob("*.parquet")))
    looked = f", {tables} analysis tables" if tables else ", not analysed"
    return f"Run({str(folder)!r}: {' × '.join(words)}, {done} cells finished{looked})"


def _facts(folder: Path, experiment: dict[str, Any], done: int) -> list[tuple[str, Any]]:
    file = folder / "plan.json"
    planned = sum(len(fleet["cells"]) for fleet in read_json(file)["fleets"]) if file.exists() else None
    fields = experiment["fields"]
    facts: list[tuple[str, Any]] = [
        ("folder", folder.resolve().name),
        ("cells", f"{done} finished" if planned is None else f"{done} of {planned} finished"),
    ]
    named = {
        "pretrained": "models",
        "learning_rates": "fine-tuning rates",
        "c_tr": "C_Tr",
        "reft_rates": "reFT rates",
    }
    facts += [(words, ", ".join(_short(v) for v in fields[n])) for n, words in named.items() if n in fields]
    axes = experiment.get("axes", {})
    facts += [(name, ", ".join(map(_short, values))) for name, values in axes.items()]
    first = fields.get("first_seed", 0)
    return [*facts, ("seeds", f"{fields['seeds']} from {first}" if first else fields["seeds"])]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).rpartition("/")[2]


def _verdicts(folder: Path) -> str:
    try:
        found = read_analysis(folder, "verdicts")
        if found is None:
            return ""
        rows = [_verdict_row(row) for row in found.to_dicts()]
    except (InputError, KeyError, TypeError, ValueError):
        return table("Verdicts", [("problem", "analysis/verdicts.parquet is damaged")])
    return table("Verdicts", rows, ("model", "rate", "C_Tr", "verdict", "because"))


def _verdict_row(row: dict[str, Any]) -> tuple[str, ...]:
    own = row["start"] == "capability"
    rate, c_tr = (f"{row[name]:g}" if own else "" for name in ("fine_tuning_rate", "c_tr"))
    strength = "" if row["strength"] == "none" else f" ({row['strength']})"
    model = row["capability"] if own else row["start"]
    return model, rate, c_tr, f"{row['kind']}{strength}", next(iter(row["reasons"]), "")
