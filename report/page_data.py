"""The data that the report's script draws from: curves as plotly figures, maps as small integers.

Numbers are rounded to 4 significant digits, maps to 1/255 and deflated, and where there are too many
models or positions some maps are left out, so that a report of 500 cells can be mailed.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file

from veneer.experiments.content import CapabilityFiles, Content
from veneer.experiments.store import Run
from veneer.finetune.fleet import EVALUATED
from veneer.models.checkpoint import checkpoint_files, load_checkpoint
from veneer.models.files import is_file
from veneer.report import figures, map_figures
from veneer.report.methods import operands
from veneer.report.stored_task import answers, roles, words
from veneer.tasks.errors import InputError

MOST_POSITIONS = 64  # of a map: the last ones, up to the answer, are those that answers hang on
MOST_CHANNELS = 64  # of an activation map
MAP_BYTES = 7_000_000  # of a run's maps as they stand in the page


@dataclass(frozen=True)
class Panels:
    """Small figures side by side.

    Attributes:
        figures: plotly figures by id, as plain data.
        behaviour: of each kind of text, its name and the (rate, figure id) of its panels.
        revival: figure ids, one per rate of fine-tuning.
        controls: traces of models trained from scratch, to be drawn into every panel of revival.
    """

    figures: dict[str, Any]
    behaviour: list[tuple[str, str, list[tuple[str, str]]]]
    revival: list[str]
    controls: list[dict[str, Any]]


def curve_panels(content: Content, best: Mapping[tuple[str, float, float], float]) -> Panels:
    """The panels of fine-tuning (by kind of text and rate) and of reFT (by rate of fine-tuning).

    Args:
        content: what is in the run's folder.
        best: by capability, fine-tuning rate and C_Tr, the reFT rate that is drawn bold.
    """
    metrics, baselines = content.metrics, content.baselines
    if metrics is None or not baselines:
        return Panels({}, [], [], [])
    names = {operand: f"({what})" for operand, what in operands(content.experiment).items()}
    rates = sorted(content.experiment["fields"]["learning_rates"], reverse=True)
    own = metrics.filter(pl.col("start") == "capability")
    trained, drawn = own.filter(pl.col("stage") == "fine-tune"), {}
    behaviour = []
    for texts, title in figures.TEXTS.items():
        row = []
        for i, rate in enumerate(rates):
            majority = {name: of[texts]["majority"] for name, of in baselines.items()}
            drawn[f"behaviour-{texts}-{i}"] = figures.behaviour(trained, rate, texts, majority, names)
            row.append((f"{rate:g}", f"behaviour-{texts}-{i}"))
        behaviour.append((texts, title, row))
    asked = (pl.col("measure") == "accuracy") & (pl.col("texts") == "natural") & (pl.col("operand") == "pt")
    back = own.filter(asked & (pl.col("stage") == "reft"))
    revival = []
    majority = {name: of["natural"]["majority"]["pt"] for name, of in baselines.items()}
    for i, rate in enumerate(rates):
        if back.filter(pl.col("fine_tuning_rate") == rate).is_empty():
            continue
        drawn[f"revival-{i}"] = figures.revival(back, rate, majority, best)
        revival.append(f"revival-{i}")
    fresh = metrics.filter(asked & (pl.col("start") == "scratch") & (pl.col("stage") == "reft"))
    controls = [] if fresh.is_empty() else _plain(figures.controls(fresh))["data"]
    return Panels({name: _plain(figure) for name, figure in drawn.items()}, behaviour, revival, controls)


def attention_data(run: Run, content: Content, most: int = MAP_BYTES) -> dict[str, Any] | None:
    """Attention and activation maps of the capabilities and of finished cells.

    Args:
        run: the run.
        content: what is in its folder.
        most: bytes that the maps may take in the page; those of the first seeds are kept.

    Returns:
        None while no capability is written, else ``models`` (by capability: see ``_described``),
        ``maps`` (by cell id or ``NAME-seed-N``: see ``_packed_maps``), ``cells`` (what each id is), and
        ``left_out``, what is not shown, in words.

    Raises:
        InputError: a file of maps is damaged.
    """
    if not content.capabilities:
        return None
    cells = [] if content.metrics is None else _named(content.metrics)
    models, maps, left_out = {}, {}, []
    for name in content.names:
        files = [capability for capability in content.capabilities if capability.name == name]
        if not files:
            continue
        folders = {f"{name}-seed-{own.seed}": own.folder for own in files}
        own = [cell for cell in cells if cell["capability"] == name]
        own_cells = [cell["cell"] for cell in sorted(own, key=lambda cell: int(cell["seed"]))]
        folders |= {cell: run.cell_path(cell) for cell in own_cells}
        described = _described(content.experiment, files[0])
        budget = most // len(content.names)
        packed, missing = _packed_within(folders, described, budget)
        _fit_vocabulary(packed, described)
        models[name], maps = described, maps | packed
        if missing:
            left_out.append(f"maps of {missing} of {len(folders)} models of {name}")
        if described["dropped"]:
            left_out.append(f"the first {described['dropped']} positions of {name}'s maps")
    return {"models": models, "maps": maps, "cells": cells, "left_out": left_out}


def _described(experiment: dict[str, Any], first: CapabilityFiles) -> dict[str, Any]:
    """What all maps of a capability share.

    Returns:
        ``tokens`` of the example text and their ``roles`` ("pt", "ft" or ""), ``vocabulary``,
        ``answer`` (position), ``shape`` [block, head, query, key] (of long texts the answer's row alone),
        ``opens`` (block and head whose answer looks most at O_PT's tokens), ``channels`` (units of the
        activation maps) and ``units`` (what each writes to, of compiled models), ``answers`` (by class),
        ``dropped`` (positions left out at the beginning), and ``map_figure`` and ``activation_figure``, to
        be filled with a map.
    """
    tensors = read_maps(first.folder / "attention.safetensors")
    vocabulary, answer = words(experiment, first.model)
    settings = experiment["fields"]
    tokens = [vocabulary[token] for token in tensors["example_tokens"].tolist()]
    role = roles(experiment, first.model, tokens, first.folder.parents[1])
    rows = tensors["example"].shape[-2]
    dropped = max(0, len(tokens) - MOST_POSITIONS) if rows > 1 else 0
    on_pt = tensors["example"][:, :, answer if rows > 1 else 0][..., [own == "pt" for own in role]].sum(-1)
    if "operand_share" in tensors:  # [asked, kind of text, block, head, on]: over many texts
        on_pt = tensors["operand_share"][0, EVALUATED.index("natural"), :, :, 0]
    opens = [int(place) for place in np.unravel_index(on_pt.argmax(), on_pt.shape)]
    tokens, role, answer = tokens[dropped:], role[dropped:], answer - dropped
    blocks, heads = tensors["example"].shape[:2]
    channels: list[int] = []
    if "mlp" in tensors:
        strongest = np.abs(tensors["mlp"]).max(0).argsort()[::-1][:MOST_CHANNELS]
        channels = sorted(strongest.tolist())
    labels = map_figures.token_labels(tokens, role)
    queries = list(range(len(tokens))) if rows > 1 else [answer]
    blank = np.zeros((len(queries), len(tokens)))
    units = _unit_names(first, channels)
    nothing = np.zeros((len(queries), len(channels)))
    unit_labels = [labels[place] for place in queries]
    return {
        "tokens": tokens,
        "roles": role,
        "vocabulary": vocabulary,
        "answer": answer,
        "shape": [blocks, heads, len(queries), len(tokens)],
        "opens": opens,
        "channels": channels,
        "dropped": dropped,
        "answers": answers(experiment, first.model),
        # Which letter has which rank differs from text to text, so there no letter stands out.
        "operands": {settings[f"operand_{o}"]: o for o in ("pt", "ft") if f"operand_{o}" in settings},
        "units": units,
        "map_figure": _plain(map_figures.attention_map(blank, tokens, answer, role, queries=queries)),
        "activation_figure": _plain(
            map_figures.activation_map(nothing, unit_labels, channels, queries.index(answer), names=units)
        ),
    }


def _unit_names(first: CapabilityFiles, channels: list[int]) -> list[str]:
    """Of the first block's hidden units, the direction of the residual stream that each writes to most.

    Tracr names these directions (``answer_1:0``); of a learned model nothing has a name.
    """
    labels = first.model["metadata"].get("residual_labels")
    weights, _ = checkpoint_files(first.folder / "model")
    if not labels or not channels or not weights.exists():  # a kept run has no weights
        return []
    model, _ = load_checkpoint(first.folder / "model")
    written = model.state_dict()["blocks.0.mlp_out.weight"][0].abs().argmax(-1)
    return [labels[int(written[channel])] for channel in channels]


def _packed_within(
    folders: Mapping[str, Path], described: dict[str, Any], budget: int
) -> tuple[dict[str, dict[str, Any]], int]:
    """Maps in order, as long as they fit into so many bytes, and how many did not."""
    packed: dict[str, dict[str, Any]] = {}
    used, missing = 0, 0
    for name, folder in folders.items():
        tensors = read_maps(folder / "attention.safetensors")  # also a damaged one left out is refused
        if not np.isfinite(tensors["example"]).all():  # it diverged: there is nothing to look at
            continue
        if used >= budget:
            missing += 1
            continue
        packed[name] = _packed_maps(tensors, described)
        used += sum(len(value) for value in packed[name].values() if isinstance(value, str))
    return packed, missing


def _packed_maps(tensors: dict[str, np.ndarray], described: dict[str, Any]) -> dict[str, Any]:
    """One model's maps.

    Returns:
        ``example`` and ``mean``: deflated bytes in base64 (mean only where it is stored), ``by_token``:
        [block][head][token], and ``mlp``: bytes of [position, channel] between ``mlp_range``.
    """
    dropped = described["dropped"]
    found: dict[str, Any] = {}
    for name in ("example", "mean"):
        if name in tensors and tensors[name].ndim == 4:
            rows = slice(dropped if tensors[name].shape[-2] > 1 else 0, None)
            found[name] = packed(tensors[name][..., rows, dropped:])
    found["by_token"] = tensors["by_token"].tolist()
    if described["channels"] and "mlp" in tensors:
        units = tensors["mlp"][dropped if len(tensors["mlp"]) > 1 else 0 :, described["channels"]]
        low, high = float(units.min()), float(units.max())
        found["mlp"] = packed((units - low) / max(high - low, 1e-12))
        found["mlp_range"] = [low, high]
    return found


def _fit_vocabulary(maps: Mapping[str, dict[str, Any]], described: dict[str, Any]) -> None:
    """Keep the tokens that occur in texts, and make the figure of attention by token."""
    seen = np.zeros(len(described["vocabulary"]), dtype=bool)
    for one in maps.values():
        seen |= (np.asarray(one["by_token"]) > 1e-6).any((0, 1))
    keep = seen.nonzero()[0].tolist()
    for one in maps.values():
        one["by_token"] = np.asarray(one["by_token"])[..., keep].tolist()
    described["vocabulary"] = [described["vocabulary"][i] for i in keep]
    colours = [described["operands"].get(token, "") for token in described["vocabulary"]]
    moments = ("before", "after fine-tuning", "after reFT")
    figure = map_figures.attention_by_token({m: [] for m in moments}, described["vocabulary"], colours)
    described["token_figure"] = _plain(figure)


def read_maps(file: Path) -> dict[str, np.ndarray]:
    """Attention maps that a run keeps.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not is_file(file):
        raise InputError("file", str(file), "attention maps that Veneer wrote", "it is no ordinary file")
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError("file", str(file), "attention maps that Veneer wrote", str(error)) from error


def packed(share: np.ndarray) -> str:
    """Shares in [0, 1] as bytes 0 to 255, deflated, in base64."""
    levels = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()


def _named(metrics: pl.DataFrame) -> list[dict[str, str]]:
    """What the script picks a fine-tuned or reFTed cell by, as text."""
    columns = ["cell", "capability", "stage", "status", "learning_rate", "fine_tuning_rate", "c_tr", "seed"]
    own = metrics.filter(pl.col("start") == "capability")
    rows: Iterable[dict[str, Any]] = own.select(columns).unique(maintain_order=True).iter_rows(named=True)
    return [{name: v if isinstance(v, str) else f"{v:g}" for name, v in row.items()} for row in rows]


def _plain(figure: Any) -> dict[str, Any]:
    """A figure as plain data, without plotly's templates."""
    content = figure if isinstance(figure, dict) else figure.to_plotly_json()
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


def pack_json(content: Any) -> str:
    """Plain data as deflated JSON in base64."""
    return base64.b64encode(zlib.compress(as_json(content).encode(), 9)).decode()


def as_json(content: Any) -> str:
    """Compact JSON that may stand inside a script element."""
    text = json.dumps(rounded(content), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")
