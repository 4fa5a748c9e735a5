"""What a model still knows: linear probes for both operands' answers (Jain et al. 2024, App. D, Fig. 8).

A probe is a linear classifier on the residual stream of the frozen model, at the position that produces
the answer, after the embedding and after each block. Where O_PT's answer can still be read after
fine-tuning, the capability was wrapped rather than lost; the pretrained model and one trained from
scratch give the lines above and below.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis import logistic, texts
from veneer.analysis.activations import residuals
from veneer.models.transformer import Transformer
from veneer.tasks import random
from veneer.tasks.encoding import Batch, Encoding, Task
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import OPERANDS, Component, Mixture, Operand

Method = Literal["paper", "logistic"]
METHODS: tuple[Method, ...] = get_args(Method)
TRAIN, TEST, CONTROL = "analyse/probe-train", "analyse/probe-test", "analyse/probe-control"
NEGLIGIBLE = 1e-5  # of the residual stream's size: below, a direction varies by rounding only
_TOGETHER = 1 << 24  # logits that are solved for at once, which bounds the memory that features take


@dataclass(frozen=True)
class ProbeSettings:
    """How probes are fitted.

    Attributes:
        method: "paper" trains each probe with the paper's schedule; "logistic" solves L2-regularized
            logistic regression, which has one answer and no schedule.
        train: texts to fit on.
        test: other texts to measure on; at 2048 the standard error of an accuracy is at most 1.1 %.
        penalty: of "logistic": ``penalty / 2 * |weights|^2`` is added to the mean cross-entropy, on
            features of variance 1.
        iterations: of "paper": updates.
        batch: of "paper": texts per update.
        learning_rate: of "paper": the first rate of AdamW (torch's betas and weight decay, of which
            the paper says nothing).
        divided_after: of "paper": updates after which the rate is divided by 10.
        seed: of texts and orders.

    Raises:
        InputError: a field outside its range.
    """

    method: Method = "logistic"
    train: int = 4096
    test: int = 2048
    penalty: float = 1e-3
    iterations: int = 4000
    batch: int = 96
    learning_rate: float = 1e-3
    divided_after: tuple[int, ...] = (2000, 3000, 3500)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError("method", self.method, " or ".join(METHODS))
        for name in ("train", "test", "iterations", "batch"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        for name in ("penalty", "learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(name, getattr(self, name), "a finite number above 0")


@dataclass(frozen=True)
class ProbeData:
    """What probes of one prompt see: features of all models, and label sets that all share.

    Attributes:
        features: the residual streams.
        labels: classes, one row per label set.
    """

    features: Float[Tensor, "group sample width"]
    labels: Int[Tensor, "set sample"]


def probe(
    model: Transformer, task: Task, encoding: Encoding, settings: ProbeSettings | None = None
) -> pl.DataFrame:
    """Fit probes for every member, residual stream and operand on natural texts, all in one fleet.

    Where the input names the operand, the answer for an operand is probed where it is asked for. Each
    probe has a twin fitted on control labels: the real ones, permuted over the texts, so that the
    frequencies of the answers stay (after Hewitt & Liang 2019, whose control tasks label word types at
    random; as whole texts do not recur, a control probe can be right on a test text by chance only, and
    how well it fits its training texts shows how much it could memorize).

    Args:
        model: a fleet, left as it is.
        task: what is asked.
        encoding: how the models read it.
        settings: how probes are fitted; None takes the defaults.

    Returns:
        A row per probe: ``member``; ``residual`` (0 after the embedding, i after block i); ``target``
        ("pt" or "ft"); ``method``; ``labels`` ("real" or "control"); ``accuracy`` on the test texts;
        ``train_accuracy``; ``majority``, the test accuracy of always giving the training texts'
        commonest label; ``converged`` (of "paper" null).

    Raises:
        InputError: a member whose activations are not finite.
    """
    settings = settings or ProbeSettings()
    asked: tuple[Operand | None, ...] = OPERANDS if task.names_operand else (None,)
    return pl.concat([_probe_asked(model, task, encoding, settings, operand) for operand in asked]).sort(
        "member", "residual", "target", "labels", descending=[False, False, True, True]
    )


def selectivity(table: pl.DataFrame) -> pl.DataFrame:
    """Accuracy less control accuracy (Hewitt & Liang 2019) of each real probe of ``probe``'s table."""
    key = ["member", "residual", "target", "method"]
    control = table.filter(pl.col("labels") == "control").select(*key, control=pl.col("accuracy"))
    joined = table.filter(pl.col("labels") == "real").join(control, on=key, maintain_order="left")
    return joined.select(
        *key, "accuracy", "control", "majority", selectivity=pl.col("accuracy") - pl.col("control")
    )


def fit(
    train: ProbeData, test: ProbeData, settings: ProbeSettings
) -> tuple[Float[Tensor, "group set 2"], list[bool] | None]:
    """Fit a probe per group and label set; accuracies on training and test features.

    Features are standardized by the training texts' mean and standard deviation, direction by
    direction; what varies by less than ``NEGLIGIBLE`` of the stream's largest deviation or mean counts
    as constant. A probe's outputs are the answers that occur in training; on others it is wrong.

    Returns:
        Accuracies, and whether each probe converged, by group and label set ("paper" gives None).
    """
    known = train.labels.unique()
    labels = torch.searchsorted(known, train.labels.contiguous())
    mean, deviation = train.features.mean(1, keepdim=True), train.features.std(1, keepdim=True, correction=0)
    size = torch.maximum(deviation, mean.abs()).amax(-1, keepdim=True)
    factor = torch.where(deviation > NEGLIGIBLE * size, 1 / deviation.clamp_min(1e-30), 0.0)
    seen, unseen = (((data.features - mean) * factor) for data in (train, test))
    converged = None
    if settings.method == "paper":
        weights = logistic.train(
            seen,
            labels,
            len(known),
            random.stream_key("probe", settings.seed, "analyse/probe-order"),
            iterations=settings.iterations,
            batch=settings.batch,
            learning_rate=settings.learning_rate,
            divided_after=settings.divided_after,
        )
    else:
        at_once = max(1, _TOGETHER // (labels.numel() * len(known)))
        solved = [logistic.solve(part, labels, len(known), settings.penalty) for part in seen.split(at_once)]
        weights = torch.cat([w for w, _ in solved])
        converged = torch.cat([ok for _, ok in solved]).flatten().tolist()
    right = [
        (known[logistic.predict(weights, x)] == data.labels).double().mean(-1)
        for x, data in ((seen, train), (unseen, test))
    ]
    return torch.stack(right, -1), converged


def _probe_asked(
    model: Transformer, task: Task, encoding: Encoding, settings: ProbeSettings, asked: Operand | None
) -> pl.DataFrame:
    """Probes on the prompts of one operand for its answer, or without one for both answers."""
    targets: tuple[Operand, ...] = OPERANDS if asked is None else (asked,)
    part: Operand = asked or "pt"
    mixture = Mixture((Component(1.0, "natural", part, part),))
    device = model.token_embedding.device
    data = []
    for stream, samples in ((TRAIN, settings.train), (TEST, settings.test)):
        batch = texts.draw(task, encoding, mixture, samples, device, stream, settings.seed)
        features = residuals(model, batch.tokens[0], encoding.answer).flatten(0, 1)
        data.append(ProbeData(features, _labels(batch, targets, task.name, stream, settings.seed)))
    train, test = data
    accuracies, converged = fit(train, test, settings)
    sets = [(target, labels) for target in targets for labels in ("real", "control")]
    commonest = train.labels.mode(-1, keepdim=True).values
    majority = (test.labels == commonest).double().mean(-1).tolist()
    streams = model.config.blocks + 1
    rows = [
        (group // streams, group % streams, *sets[i], majority[i])
        for group in range(len(train.features))
        for i in range(len(sets))
    ]
    found = pl.DataFrame(rows, ["member", "residual", "target", "labels", "majority"], orient="row")
    measured = accuracies.flatten(0, 1).cpu().numpy()
    return found.select(
        "member",
        "residual",
        "target",
        pl.lit(settings.method).alias("method"),
        "labels",
        pl.Series("accuracy", measured[:, 1]),
        pl.Series("train_accuracy", measured[:, 0]),
        "majority",
        pl.Series("converged", converged or [None] * len(rows), dtype=pl.Boolean),
    )


def _labels(
    batch: Batch, targets: tuple[Operand, ...], name: str, stream: str, seed: int
) -> Int[Tensor, "set sample"]:
    """For each target the right classes, then the same permuted over the texts."""
    key = torch.tensor(random.stream_key(name, seed, f"{CONTROL}/{stream}"), device=batch.tokens.device)
    order = random.shuffled_order(key, 1, batch.tokens.shape[1])[0]
    right = [batch.results[0, :, OPERANDS.index(target)] for target in targets]
    return torch.stack([labels for real in right for labels in (real, real[order])])
