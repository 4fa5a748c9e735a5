"""``veneer pretrain pcfg``: several priors and seeds as one fleet, kept with what they can do.

The folder holds ``pretraining.json`` (every field), ``metrics.parquet`` (accuracy and loss by family and
operand), ``state.safetensors`` while it trains, and ``PRIOR-seed-N-UPDATES`` checkpoints that
``veneer.pcfg.capability.LearnedCapability`` reads.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from veneer.experiments.estimate import memory_of
from veneer.experiments.named import PcfgPretraining
from veneer.experiments.shapes import LATER
from veneer.finetune.initialize import initialize
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import Trained, evaluation_steps, train
from veneer.models.config import TransformerConfig
from veneer.models.files import alone, check_place, exists, read_json, read_table, write_json, write_table
from veneer.models.transformer import Transformer
from veneer.pcfg.capability import LearnedCapability
from veneer.pcfg.families import JAILBREAK, ONE_PER_FAMILY, Pretraining, SampleLayout
from veneer.pcfg.grammars import read_grammar
from veneer.pcfg.pretraining import PRIORS, PretrainingJob, gpt, question_name, questions
from veneer.tasks.errors import InputError


def prior_of(name: str) -> tuple[float, ...]:
    """The operand prior meant by a name or by probabilities with slashes.

    Raises:
        InputError: neither.
    """
    if name in PRIORS:
        return PRIORS[name]
    try:
        return tuple(float(part) for part in name.split("/"))
    except ValueError as error:
        valid = f"{', '.join(PRIORS)}, or probabilities such as 0.7/0.2/0.1"
        raise InputError("prior", name, valid) from error


def layout_of(experiment: PcfgPretraining) -> SampleLayout:
    """The layout of an experiment's samples.

    Raises:
        InputError: a grammar or number that cannot be used.
    """
    return SampleLayout(
        read_grammar(experiment.grammar, experiment.max_length),
        experiment.window,
        experiment.count_last,
        experiment.occurrence,
        experiment.token_back,
        JAILBREAK if experiment.jailbreak else ONE_PER_FAMILY,
    )


LARGEST = {
    "width": 100_000,
    "blocks": 1_000,
    "heads": 10_000,
    "batch": 1_000_000,
    "iterations": 10**9,
    "evaluation_samples": 10_000_000,
    "seeds": 1_000,
    "first_seed": 10**9,
}
"""What no machine does in a lifetime is refused before anything is made ready."""


def _is_whole(file: Path) -> bool:
    """Whether a file is more than what another process is just writing."""
    return not (file.name.startswith(".") and file.name.endswith(".tmp"))


class PretrainingRun:
    """An experiment ready to pretrain, in its folder.

    Args:
        experiment: what to train.
        out: folder; one that holds the same experiment is continued.
        command: how it was asked for, kept with the checkpoints.

    Raises:
        InputError: a field that cannot be used, or a folder of something else; nothing is written.
    """

    def __init__(self, experiment: PcfgPretraining, out: Path, command: str) -> None:
        for field, most in LARGEST.items():
            if getattr(experiment, field) > most:
                raise InputError(field, getattr(experiment, field), f"at most {most:,}")
        if experiment.seeds < 1:
            raise InputError("seeds", experiment.seeds, "1 or more")
        if experiment.first_seed < 0:
            raise InputError("first_seed", experiment.first_seed, "0 or more")
        if experiment.evaluation_samples < 1:
            raise InputError("evaluation_samples", experiment.evaluation_samples, "1 or more")
        if experiment.heads < 1 or experiment.width % experiment.heads:
            raise InputError("heads", experiment.heads, f"a divisor of width = {experiment.width}")
        if not experiment.priors or len(set(experiment.priors)) != len(experiment.priors):
            raise InputError("priors", experiment.priors, "one or more different priors")
        if not all(0 < step < experiment.iterations for step in experiment.keep):
            raise InputError("keep", experiment.keep, f"updates between 0 and {experiment.iterations}")
        self.experiment, self.out, self.command = experiment, out, command
        self.layout = layout_of(experiment)
        self.layout.sampler.check(self.layout.window)
        seeds = range(experiment.first_seed, experiment.first_seed + experiment.seeds)
        self.names = [(prior, seed) for prior in experiment.priors for seed in seeds]
        self.data = [Pretraining(self.layout, prior_of(prior)) for prior, _ in self.names]
        self.recipe = Recipe(
            "adamw",
            experiment.learning_rate,
            experiment.iterations,
            warmup=round(experiment.warmup * experiment.iterations),
            batch=experiment.batch,
            precision=experiment.precision,
            compile=experiment.compile,
        )
        self.steps = tuple(sorted({*evaluation_steps(experiment.iterations), *experiment.keep}))
        self._check_folder()

    def _check_folder(self) -> None:
        check_place(self.out)
        file = self.out / "pretraining.json"
        # Looked at before the description, which somebody who pretrains here just now writes first.
        taken = exists(self.out) and (not self.out.is_dir() or any(map(_is_whole, self.out.iterdir())))
        if exists(file):
            found, own = {**LATER, **read_json(file, dict, "one of Veneer's")}, self._described
            valid = "a new folder, or the same settings"
            if differing := [name for name in own if found.get(name) != own[name]]:
                changed = [
                    "the rules of the grammar" if n == "rules" else f"{n}: {found.get(n)} -> {own[n]}"
                    for n in differing
                ]
                raise InputError("out", str(self.out), valid, f"it holds others ({'; '.join(changed)})")
        elif taken:
            raise InputError("out", str(self.out), "a new or empty folder", "it is no pretraining")

    @property
    def _described(self) -> dict[str, Any]:
        """Every field, and the grammar itself: a file may hold another one the next time."""
        return json.loads(json.dumps({**asdict(self.experiment), "rules": self.layout.grammar.text}))

    def check_memory(self, device: torch.device) -> None:
        """Refuse models that need more memory than there is, by what they need for certain.

        Raises:
            InputError: they do.
        """
        asked, config = self.experiment, self._config
        weights = config.blocks * 12 * config.width**2
        weights += config.width * (2 * config.vocabulary + config.positions)
        # Activations are left out: a batch may go through a model in slices.
        texts = 8 * config.positions * (asked.evaluation_samples + len(self.names) * asked.batch)
        need = 4 * len(self.names) * 4 * weights + texts
        if need > (have := memory_of(device)):
            sizes = f"{len(self.names)} models of width {config.width:,} and {config.blocks} blocks"
            problem = f"{sizes} need at least {need / 1e9:,.0f} GB; this {device.type} has {have / 1e9:,.0f}"
            raise InputError("batch", asked.batch, "a smaller batch, width, window or fewer models", problem)

    @property
    def _config(self) -> TransformerConfig:
        return gpt(self.layout, self.experiment.width, self.experiment.blocks, self.experiment.heads)

    @property
    def finished(self) -> bool:
        """Whether everything is there."""
        return (self.out / "metrics.parquet").exists()

    def execute(self, device: torch.device, progress: Callable[[int], None]) -> None:
        """Train to the end, from the last state where there is one, and write metrics and checkpoints.

        Whoever asks for the same folder meanwhile waits, and finds it done.
        """
        with alone(self.out) as waited:
            if waited:
                self._check_folder()
            if not self.finished:
                self._train(device, progress)

    def _train(self, device: torch.device, progress: Callable[[int], None]) -> None:
        write_json(self.out / "pretraining.json", self._described)

        def keep(step: int, model: Transformer, accuracy: Tensor) -> None:
            if step in self.experiment.keep:
                self._save(model, step, accuracy)

        config = self._config
        seeds = [seed for _, seed in self.names]
        state = self.out / "state.safetensors"
        trained = train(
            PretrainingJob(
                initialize(config, seeds).to(device),
                self.data,
                seeds,
                self.recipe,
                self.steps,
                self.experiment.evaluation_samples,
                keep,
                state,
                progress=progress,
                compile=self.recipe.compile,
            )
        )
        self._save(trained.model, self.experiment.iterations, trained.accuracy[-1, :, :, 0])
        self._write_metrics(trained)
        state.unlink(missing_ok=True)

    @property
    def _asked(self) -> list[str]:
        return [question_name(self.layout, question) for question in questions(self.layout)]

    def _save(self, model: Transformer, step: int, accuracy: Tensor) -> None:
        for i, (prior, seed) in enumerate(self.names):
            LearnedCapability(
                model.member(i).to("cpu"),
                self.layout,
                self.data[i].operand_prior,
                seed,
                step,
                dict(zip(self._asked, accuracy[i].tolist(), strict=True)),
                self.command,
            ).save(self.checkpoint(prior, seed, step))

    def checkpoint(self, prior: str, seed: int | str, step: int) -> Path:
        """Where a model is kept, without a suffix."""
        return self.out / f"{prior.replace('/', '-')}-seed-{seed}-{step}"

    def _write_metrics(self, trained: Trained) -> None:
        """Columns prior, seed, status, step, question, accuracy, loss ("train": of the next token)."""
        rows = []
        for m, (prior, seed) in enumerate(self.names):
            at = int(trained.diverged_at[m])
            status = "done" if at < 0 else f"diverged at step {at}"
            for s, step in enumerate(trained.steps):
                rows.append((prior, seed, status, step, "train", None, float(trained.train_loss[s, m])))
                for q, question in enumerate(self._asked):
                    scores = (float(part[s, m, q, 0]) for part in (trained.accuracy, trained.loss))
                    rows.append((prior, seed, status, step, question, *scores))
        names = ["prior", "seed", "status", "step", "question", "accuracy", "loss"]
        table = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
        write_table(self.out / "metrics.parquet", table)

    def final(self) -> pl.DataFrame:
        """Accuracy after the last update: one row per question, one column per model."""
        columns = ["prior", "seed", "step", "question", "accuracy"]
        table = read_table(self.out / "metrics.parquet", columns).filter(
            (pl.col("step") == pl.col("step").max()) & (pl.col("question") != "train")
        )
        named = table.with_columns(model=pl.format("{} seed {}", "prior", "seed"))
        return named.pivot("model", index="question", values="accuracy", maintain_order=True)
