"""The data that the report's script draws from: curves as plotly figures, attention as small integers.

Numbers are rounded to 4 significant digits, attention to 1/255 and deflated, so that a report of
500 cells stays a file that can be mailed.
"""

import base64
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tasks.errors import InputError
from veneer import figures
from veneer.methods import operands
from veneer.store import Run, read_json
from veneer.summary import revival_curves


@dataclass(frozen=True)
class Panels:
    """Small figures side by side.

    Attributes:
        figures: plotly figures by id, as plain data.
        behaviour: of each kind of text, its name and the (rate, figure id) of its panels.
        revival: figure ids, one per rate of fine-tuning.
    """

    figures: dict[str, Any]
    behaviour: list[tuple[str, str, list[tuple[str, str]]]]
    revival: list[str]


def curve_panels(run: Run, metrics: pl.DataFrame | None, baselines: dict[str, Any] | None) -> Panels:
    """The panels of fine-tuning (by kind of text and rate) and of reFT (by rate of fine-tuning)."""
    if metrics is None or baselines is None:
        return Panels({}, [], [])
    experiment = run.experiment
    names = {operand: f"({what})" for operand, what in operands(experiment).items()}
    rates = sorted(experiment["fields"]["learning_rates"], reverse=True)
    trained = metrics.filter(pl.col("stage") == "fine-tune")
    drawn: dict[str, Any] = {}
    behaviour = []
    for texts, title in figures.TEXTS.items():
        row = []
        for i, rate in enumerate(rates):
            majority = baselines[texts]["majority"]
            drawn[f"behaviour-{texts}-{i}"] = figures.behaviour(trained, rate, texts, majority, names)
            row.append((f"{rate:g}", f"behaviour-{texts}-{i}"))
        behaviour.append((texts, title, row))
    curves, revival = revival_curves(run), []
    majority = baselines["natural"]["majority"]["pt"]
    for i, rate in enumerate(rates):
        if curves.filter(pl.col("fine_tuning_rate") == rate).is_empty():
            continue
        drawn[f"revival-{i}"] = figures.revival(curves, rate, majority)
        revival.append(f"revival-{i}")
    return Panels({name: _plain(figure) for name, figure in drawn.items()}, behaviour, revival)


def attention_data(run: Run, metrics: pl.DataFrame | None) -> dict[str, Any] | None:
    """Attention maps of the capabilities and of every finished cell.

    Returns:
        None while no capability is written, else: ``tokens`` of the example text and their ``roles``
        ("pt", "ft" or ""), ``vocabulary`` and its ``roles``, ``answer`` (position), ``shape``
        [block, head, position, position], ``maps`` (by cell id or ``seed-N``: ``example``, deflated
        bytes in base64, and ``by_token``, [block][head][token]), ``cells`` (what each id is) and
        the layouts of the two figures.

    Raises:
        InputError: a file of a capability is damaged.
    """
    folders = {folder.name: folder for folder in sorted((run.path / "capabilities").glob("*-seed-*"))}
    folders = {name: folder for name, folder in folders.items() if (folder / "accuracy.json").exists()}
    if not folders:
        return None
    described = read_json(next(iter(folders.values())) / "model.json")["metadata"]
    cells = [] if metrics is None else _named(metrics)
    folders |= {cell["cell"]: run.cell_path(cell["cell"]) for cell in cells}
    read = {name: _attention(folder / "attention.safetensors") for name, folder in folders.items()}
    first = next(iter(read.values()))
    vocabulary = [str(token) for token in described["vocabulary"]]
    tokens = [vocabulary[token] for token in first["example_tokens"].tolist()]
    roles, vocabulary_roles = _roles(run.experiment, tokens, vocabulary)
    return {
        "tokens": tokens,
        "roles": roles,
        "vocabulary": vocabulary,
        "answer": described["answer_position"],
        "shape": list(first["example"].shape),
        "maps": {
            name: {"example": _packed(tensors["example"]), "by_token": tensors["by_token"].tolist()}
            for name, tensors in read.items()
        },
        "cells": cells,
        "map_figure": _plain(
            figures.attention_map(np.zeros((len(tokens),) * 2), tokens, described["answer_position"], roles)
        ),
        "token_figure": _plain(
            figures.attention_by_token(
                {moment: [] for moment in ("before", "after fine-tuning", "after reFT")},
                vocabulary,
                vocabulary_roles,
            )
        ),
    }


def _attention(file: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError("file", str(file), "attention maps that Veneer wrote", str(error)) from error


def _packed(share: np.ndarray) -> str:
    """Shares in [0, 1] as bytes 0 to 255, deflated, in base64."""
    levels = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()


def _named(metrics: pl.DataFrame) -> list[dict[str, str]]:
    """What the script picks a cell by: its stage, rates, C_Tr and seed, as text."""
    columns = ["cell", "stage", "status", "learning_rate", "fine_tuning_rate", "c_tr", "seed"]
    rows = metrics.select(columns).unique(maintain_order=True).iter_rows(named=True)
    return [{name: v if isinstance(v, str) else f"{v:g}" for name, v in row.items()} for row in rows]


def _roles(
    experiment: dict[str, Any], tokens: list[str], vocabulary: list[str]
) -> tuple[list[str], list[str]]:
    """Which tokens are O_PT's and O_FT's: in the example text, and in the vocabulary.

    Of the Max-identifier, the operands are ranks: they are tokens of a text, not of the vocabulary.
    """
    settings = experiment["fields"]
    if experiment["name"] == "counter":
        role = {settings["operand_pt"]: "pt", settings["operand_ft"]: "ft"}
        return [role.get(token, "") for token in tokens], [role.get(token, "") for token in vocabulary]
    letters = sorted(
        (token for token in tokens if token in settings["letters"]), key=settings["letters"].index
    )
    role = {letters[settings["rank_pt"] - 1]: "pt", letters[settings["rank_ft"] - 1]: "ft"}
    return [role.get(token, "") for token in tokens], [""] * len(vocabulary)


def _plain(figure: Any) -> dict[str, Any]:
    """A figure as plain data, without plotly's templates."""
    content = figure.to_plotly_json()
    content["layout"].pop("template", None)
    return rounded(content)


def rounded(content: Any) -> Any:
    """Plain data with floats of 4 significant digits; what is not finite becomes None."""
    match content:
        case dict():
            return {key: rounded(value) for key, value in content.items()}
        case list() | tuple():
            return [rounded(value) for value in content]
        case np.ndarray():
            return rounded(content.tolist())
        case float():
            return float(f"{content:.4g}") if math.isfinite(content) else None
    return content


def as_json(content: Any) -> str:
    """Compact JSON that may stand inside a script element."""
    text = json.dumps(rounded(content), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")
