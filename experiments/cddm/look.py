"""What is found inside one model: tables on held-out decisions, each from an analysis that stands by itself.

``final``: accuracy. ``ablation``: without each head, MLP and block (Lin 2024, Fig. 4). ``generic``: loss on
ordinary texts, and without each head. ``similarity``: CKA with the pretrained model. ``decoding``, ``units``,
``one-unit``: what can be read (Fig. 3). ``attention``, ``maps``: what heads look at (Fig. 5). ``points``,
``silhouettes``: hidden states on a plane (Fig. 2). docs/run-folder.md has the columns.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from veneer.analysis.ablation import How
from veneer.analysis.decoding import decode, decode_units
from veneer.analysis.embedding import UNSTABLE, Way, plane, separation, stability
from veneer.analysis.text_ablation import text_ablation_effects, text_loss_effects, text_parts
from veneer.analysis.text_insides import compare_text_layers
from veneer.analysis.token_roles import attention_by_role
from veneer.experiments.cddm.prompts import PIECE, TOKENS, Prompts, scores
from veneer.language.encoding import Encoded
from veneer.models.huggingface import HuggingFaceModel

ATTENDED = 128
"""Prompts over which attention is averaged."""
HEADS = 4
"""Heads whose maps are kept: those whose ablation costs most, as in the paper's Figure 5."""
LEAST = 0.005
"""Share of attention below which a cell of a map is not kept."""
DRAWN, EACH = 320, 96
"""Points of the picture of last tokens, and decisions of the picture of all named tokens."""
UNITS = ("residual", "mlp")


def final(model: HuggingFaceModel, asked: Mapping[str, Prompts]) -> pl.DataFrame:
    """Accuracy on decisions of several kinds, by name."""
    rows = [{"asked": name, "decisions": len(own), **scores(model, own)} for name, own in asked.items()]
    return pl.DataFrame(rows)


def ablation(model: HuggingFaceModel, prompts: Prompts, hows: Sequence[How]) -> pl.DataFrame:
    """Accuracy and logit difference without each part, by each way to ablate."""
    parts = (model, prompts.tokens, prompts.at, prompts.labels)
    found = [
        text_ablation_effects(*parts, how=how, answers=prompts.answers).with_columns(how=pl.lit(how))
        for how in hows
    ]
    return pl.concat(found).select("how", pl.exclude("how"))


def generic(model: HuggingFaceModel, texts: Encoded, hows: Sequence[How], by_part: bool) -> pl.DataFrame:
    """Loss on ordinary texts, of the whole model and, if asked for, without each head."""
    heads = text_parts(model, ("head",)) if by_part else []
    found = [text_loss_effects(model, texts, how, heads).with_columns(how=pl.lit(how)) for how in hows]
    return pl.concat(found).select("how", pl.exclude("how"))


def similarity(model: HuggingFaceModel, pretrained: HuggingFaceModel, prompts: Prompts) -> pl.DataFrame:
    """CKA of the residual streams at the last token with those of the pretrained model."""
    return compare_text_layers(pretrained, model, prompts.tokens, prompts.at, PIECE)


class States:
    """Activations of a model on decisions, captured once.

    Attributes:
        residual: the stream after the embedding and after each block, at ``TOKENS``.
        hidden: what each MLP's last matrix reads, at the last token.
    """

    residual: Float[Tensor, "layer token sample width"]
    hidden: Float[Tensor, "block sample unit"]

    @torch.no_grad()
    def __init__(self, model: HuggingFaceModel, prompts: Prompts) -> None:
        streams = [f"residual.{i}" for i in range(model.blocks + 1)]
        mlps = [f"mlp.{i}" for i in range(model.blocks)]
        residual, hidden = [], []
        for some in torch.arange(len(prompts)).split(PIECE):
            seen = model.activations(prompts.tokens[some], [*streams, *mlps])
            rows, places = torch.arange(len(some)), prompts.places[some]
            residual.append(torch.stack([seen[name][rows[:, None], places] for name in streams]))
            hidden.append(torch.stack([seen[name][rows, prompts.at[some]] for name in mlps]))
        self.residual = torch.cat(residual, 1).transpose(1, 2).cpu()
        self.hidden = torch.cat(hidden, 1).cpu()

    @property
    def units(self) -> Float[Tensor, "sample unit"]:
        """All units at the last token: those of the streams, then those of the MLPs."""
        parts = [*self.residual[:, -1], *self.hidden]
        return torch.cat(parts, -1)

    @property
    def named(self) -> pl.DataFrame:
        """Of each of ``units``: kind ("residual" or "mlp"), layer, unit."""
        rows = [
            (kind, layer, unit)
            for kind, own in zip(UNITS, (self.residual, self.hidden), strict=True)
            for layer in range(len(own))
            for unit in range(own.shape[-1])
        ]
        return pl.DataFrame(rows, {"kind": pl.String, "layer": pl.Int64, "unit": pl.Int64}, orient="row")


def decoding(states: States, prompts: Prompts) -> pl.DataFrame:
    """What can be read from all units of the stream, by layer and token."""
    layers, tokens = states.residual.shape[:2]
    table = decode(states.residual.flatten(0, 1), prompts.variables, prompts.pairs)
    place = pl.col("place")
    named = pl.Series("token", [TOKENS[i % tokens] for i in range(layers * tokens)])
    return table.with_columns(layer=place // tokens, token=named.gather(table["place"])).select(
        "layer", "token", pl.exclude("layer", "token", "place")
    )


def units(states: States, prompts: Prompts) -> pl.DataFrame:
    """What can be read from each unit at the last token."""
    table = decode_units(states.units, prompts.variables, prompts.pairs)
    named = states.named.with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    joined = table.rename({"unit": "place"}).join(named, on="place", how="left", maintain_order="left")
    return joined.select("kind", "layer", "unit", pl.exclude("kind", "layer", "unit", "place"))


def one_unit(states: States, table: pl.DataFrame, prompts: Prompts) -> pl.DataFrame:
    """The unit of the last stream that tells the choice best, read at every token (as in Fig. 3)."""
    last = table.filter(
        (pl.col("kind") == "residual") & (pl.col("layer") == len(states.residual) - 1),
        pl.col("variable") == "choice",
    )
    best = int(last.sort("accuracy", descending=True)["unit"][0])
    found = decode(states.residual[-1, :, :, best : best + 1], prompts.variables, prompts.pairs)
    token = pl.Series("token", TOKENS).gather(found["place"])
    return found.with_columns(token=token, unit=pl.lit(best)).select(
        "unit", "token", pl.exclude("unit", "token", "place")
    )


def attention(model: HuggingFaceModel, prompts: Prompts) -> pl.DataFrame:
    """How much of each head's attention goes from the last token to tokens of each role."""
    found = []
    for block, pattern in _patterns(model, prompts, range(model.blocks)).items():
        own = attention_by_role(pattern, prompts.roles, prompts.at.cpu())
        found.append(own.with_columns(block=pl.lit(block)))
    return pl.concat(found).select("block", pl.exclude("block"))


def maps(model: HuggingFaceModel, tokenizer: Any, prompts: Prompts, effects: pl.DataFrame) -> pl.DataFrame:
    """Attention averaged over prompts of equal length, of the heads whose ablation costs most."""
    heads = effects.filter(kind="head", how="zero").sort(
        "accuracy_lost", "difference_lost", descending=True, maintain_order=True
    )
    same = prompts.alike
    labels = _labels(tokenizer, same)
    rows, chosen = [], heads.head(HEADS).select("block", "head").rows()
    patterns = _patterns(model, same, sorted({block for block, _ in chosen}))
    for block, head in chosen:
        mean = patterns[block][:, head].double().mean(0)
        for query, key in torch.nonzero(mean > LEAST).tolist():
            if query < len(labels) and key <= query:
                rows.append((block, head, query, key, labels[query], labels[key], float(mean[query, key])))
    schema = dict.fromkeys(("block", "head", "query", "key"), pl.Int64)
    texts = dict.fromkeys(("query_token", "key_token"), pl.String)
    return pl.DataFrame(rows, {**schema, **texts, "weight": pl.Float64}, orient="row")


@torch.no_grad()
def _patterns(
    model: HuggingFaceModel, prompts: Prompts, blocks: Collection[int]
) -> dict[int, Float[Tensor, "batch head query key"]]:
    """Attention of these blocks on all prompts, by block."""
    names = [f"attention.{block}" for block in blocks]
    seen = [model.activations(some, names) for some in prompts.tokens.split(PIECE)]
    return {
        block: torch.cat([own[name].cpu() for own in seen]) for block, name in zip(blocks, names, strict=True)
    }


def _labels(tokenizer: Any, prompts: Prompts) -> list[str]:
    """The tokens of prompts that are alike; what differs from prompt to prompt is named by its role."""
    length = int(prompts.at[0]) + 1
    found = []
    for place in range(length):
        ids = prompts.tokens[:, place].unique()
        role = prompts.roles[0][place]
        if len(ids) == 1:
            found.append(str(tokenizer.decode(ids)).strip() or "·")
        else:
            found.append("context" if role == "context" else "number")
    return found


def pictures(states: States, prompts: Prompts, ways: Sequence[Way]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The last layer's states on a plane, and how well variables separate there and in all units.

    Returns:
        ``points``: picture ("last token", "all tokens"), way, x, y, and what each point is. ``silhouettes``:
        picture, way ("all units" for no plane), layer, variable, separation, stability over two seeds.
    """
    tokens, drawn = len(TOKENS), min(DRAWN, len(prompts))
    each = min(EACH, len(prompts))
    last = states.residual[-1]
    told = {name: own.numpy() for name, own in prompts.variables.items()}
    sets = {
        "last token": (last[-1, :drawn], {name: own[:drawn] for name, own in told.items()}),
        "all tokens": (
            last[:, :each].flatten(0, 1),
            {
                "token": np.repeat(np.arange(tokens), each),
                **{name: np.tile(own[:each], tokens) for name, own in told.items()},
            },
        ),
    }
    points, silhouettes = [], []
    for picture, (features, variables) in sets.items():
        own = features.numpy().astype(np.float64)
        for way in ways:
            seen = plane(own, way)
            steady = 1.0 if way == "pca" else stability(seen, plane(own, way, 1))
            points.append(
                pl.DataFrame({"x": seen[:, 0], "y": seen[:, 1], **variables}).with_columns(
                    picture=pl.lit(picture), way=pl.lit(way), **_lacking(variables)
                )
            )
            silhouettes += _separations(picture, way, len(states.residual) - 1, seen, variables, steady)
    for layer, stream in enumerate(states.residual[:, -1, :drawn]):
        own = stream.numpy().astype(np.float64)
        silhouettes += _separations("last token", "all units", layer, own, sets["last token"][1], 1.0)
    front = ("picture", "way", "x", "y", "token")
    return pl.concat([part.select(*front, pl.exclude(*front)) for part in points]), pl.DataFrame(silhouettes)


def _lacking(variables: Mapping[str, Any]) -> dict[str, pl.Expr]:
    return {} if "token" in variables else {"token": pl.lit(len(TOKENS) - 1, pl.Int64)}


def _separations(
    picture: str, way: str, layer: int, seen: np.ndarray, variables: Mapping[str, np.ndarray], steady: float
) -> list[dict[str, Any]]:
    return [
        {
            "picture": picture,
            "way": way,
            "layer": layer,
            "variable": name,
            "separation": separation(seen, labels),
            "stability": steady,
            "stable": steady >= UNSTABLE,
        }
        for name, labels in variables.items()
    ]
