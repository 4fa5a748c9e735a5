"""Texts to look at: the right answers beside those before fine-tuning, after it, and after retraining.

Compiled models are small, so that those of a few settings travel in the page, where a reader types
strings of their own (``web/forward.js`` runs them). Of learned models only the stored samples are there.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from veneer.compiled.capability import CompiledCapability
from veneer.experiments.content import CapabilityFiles, Content
from veneer.experiments.store import Run
from veneer.finetune.fleet import EVALUATED, evaluation_sets
from veneer.models.checkpoint import checkpoint_files, load_checkpoint
from veneer.models.transformer import Transformer
from veneer.pcfg.operand_task import OperandTask
from veneer.report.stored_task import answers, learned, stored_task, words
from veneer.tasks.encoding import Batch, Encoding

TEXTS = 20
"""Of each kind."""
WEIGHT_BYTES = 620_000
"""Of models' weights as they stand in the page."""
MOST_SETTINGS = 40
"""Settings whose samples are in the page."""
LAYERS = ("query", "key", "value", "output", "mlp_in", "mlp_out")
Setting = tuple[str, float, float]


def sample_data(
    run: Run, content: Content, settings: list[Setting], share: float = 1.0
) -> dict[str, Any] | None:
    """Samples of every setting, and the weights of as many as fit; settings in order of interest.

    Args:
        run: the run.
        content: what is in its folder.
        settings: capability, rate and C_Tr, what is to be kept first in front.
        share: how much of the bytes and settings that a run may take are this one's.

    Returns:
        None while nothing is finished. Else by capability: ``texts`` (tokens, words), ``right`` (classes for
        old and new task), ``asked`` ("pt", "ft" or "" where the text does not say), ``kinds``,
        ``shortcut`` (class of the old task's answer + q), ``answers`` (words by class), ``vocabulary``,
        ``models``: by id the answers given, as classes; ``shape`` and ``weights`` by id for compiled models.
    """
    if content.metrics is None or not content.capabilities:
        return None
    most = max(1, round(share * MOST_SETTINGS))
    found: dict[str, Any] = {}
    budget = round(share * WEIGHT_BYTES)
    for name in content.names:
        files = content.first_of(name)
        own = [setting for setting in settings if setting[0] == name][:most]
        if files is None or not own or not checkpoint_files(files.folder / "model")[0].exists():
            continue  # a kept run has no weights, and so nothing to ask
        found[name] = _of_capability(run, content, files, own, budget // len(content.names))
    return found or None


def _of_capability(
    run: Run, content: Content, files: CapabilityFiles, settings: list[Setting], budget: int
) -> dict[str, Any]:
    task, model, encoding = task_of(content.experiment, files)
    asked = evaluation_sets(task, encoding, TEXTS, torch.device("cpu"))
    batches = [(kind, place, batch) for kind in EVALUATED for place, batch in enumerate(asked[kind])]
    vocabulary, answer = words(content.experiment, files.model)
    tokens = torch.cat([batch.tokens[0] for _, _, batch in batches])
    right = torch.cat([batch.results[0] for _, _, batch in batches])
    of_class, names = {c: i for i, c in enumerate(encoding.classes)}, list(task.answers)
    place = {value: i for i, value in enumerate(names)}
    shortcut = [_shifted(names, place, of_class, encoding, int(pt), task.q) for pt, _ in right.tolist()]
    models: dict[str, list[int]] = {}
    weights: dict[str, str] = {}
    used = 0
    for key, own in _models(run, content, files, model, settings):
        models[key] = given(own, tokens, answer)
        if not learned(content.experiment) and used < budget:
            weights[key] = packed_weights(own)
            used += len(weights[key])
    return {
        "texts": tokens.tolist(),
        "right": right.tolist(),
        "shortcut": shortcut,
        "kinds": [kind for kind, _, batch in batches for _ in range(batch.tokens.shape[1])],
        "asked": _asked(batches) if task.names_operand else [],
        "answers": answers(content.experiment, files.model),
        "vocabulary": vocabulary,
        "answer": answer,
        "models": models,
        "shape": asdict(model.config),
        "weights": weights,
        "reads": _reads(files.model) if weights else {},
    }


def task_of(experiment: dict[str, Any], files: CapabilityFiles) -> tuple[Any, Transformer, Encoding]:
    """A capability's task, its model as fine-tuning found it, and how it reads the task.

    Raises:
        InputError: files that are damaged.
    """
    task = stored_task(experiment, files.model, files.folder.parents[1])
    if isinstance(task, OperandTask):
        model, _ = load_checkpoint(files.folder / "model")
        return task, model, task.encoding
    own = CompiledCapability.load(files.folder)
    assert own.classes is not None and own.answer_position is not None
    encoding = Encoding.between(task, own.vocabulary, own.classes, own.bos, own.pad, own.answer_position)
    return task, own.model, encoding


def _asked(batches: list[tuple[str, int, Batch]]) -> list[str]:
    return [("pt", "ft")[place] for _, place, batch in batches for _ in range(batch.tokens.shape[1])]


def _shifted(
    names: list[Any], place: dict[Any, int], of_class: dict[int, int], encoding: Encoding, pt: int, q: int
) -> int:
    """The class that the shortcut gives, O_PT's answer + q; -1 where that is no answer."""
    index = of_class.get(pt)
    if index is None:
        return -1
    value = names[index]
    if isinstance(value, int):
        moved = place.get(value + q)
    else:  # letters, and answer tokens such as "=3", stand in order
        moved = index + q if 0 <= index + q < len(names) else None
    return -1 if moved is None else encoding.classes[moved]


def _models(
    run: Run, content: Content, files: CapabilityFiles, first: Transformer, settings: list[Setting]
) -> Iterator[tuple[str, Transformer]]:
    """The capability ("before"), and each setting's models by cell id: fine-tuned, then retrained."""
    yield "before", first
    assert content.metrics is not None
    cells = content.metrics.filter(content.metrics["start"] == "capability").unique(
        "cell", maintain_order=True
    )
    rows = [
        row for row in cells.iter_rows(named=True) if row["seed"] == files.seed and row["status"] == "done"
    ]
    for name, rate, c_tr in settings:
        own = [
            row
            for row in rows
            if (row["capability"], row["fine_tuning_rate"], row["c_tr"]) == (name, rate, c_tr)
        ]
        for row in sorted(own, key=lambda row: (row["stage"] != "fine-tune", -row["learning_rate"])):
            file = run.cell_path(row["cell"]) / "model"
            if file.with_suffix(".safetensors").exists():
                yield row["cell"], load_checkpoint(file)[0]


@torch.no_grad()
def given(model: Transformer, tokens: torch.Tensor, answer: int) -> list[int]:
    """The class that a model answers with, text by text; of weights that are not finite -1."""
    logits = model(tokens.unsqueeze(0), answer=answer).logits[0]
    return torch.where(logits.isfinite().all(-1), logits.argmax(-1), -1).tolist()


def packed_weights(model: Transformer) -> str:
    """One model's weights as little-endian float32 in base64, in the order that ``forward.js`` reads."""
    state = model.state_dict()
    parts = [state["token_embedding"], state["position_embedding"]]
    for block in range(model.config.blocks):
        parts += [state[f"blocks.{block}.{name}.{part}"] for name in LAYERS for part in ("weight", "bias")]
    parts.append(state["unembedding"])
    flat = np.concatenate([part[0].double().numpy().astype("<f4").ravel() for part in parts])
    return base64.b64encode(flat.tobytes()).decode()


def _reads(model: Mapping[str, Any]) -> dict[str, Any]:
    about = model["metadata"]
    return {name: about[name] for name in ("bos", "pad", "max_length")}
