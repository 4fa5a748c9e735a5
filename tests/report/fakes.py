"""Runs that no training made, with the accuracies that were put into them, for tests of the report."""

import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from veneer.analysis.attention import operand_shares
from veneer.analysis.grafting import Grafting, graft, movement
from veneer.analysis.probing import ProbeSettings, probe
from veneer.analysis.pruning import Pruning, prune
from veneer.compiled.capability import CompiledCapability
from veneer.experiments.analysis_tables import COLUMNS
from veneer.experiments.named import CounterExperiment, PcfgCounterExperiment
from veneer.experiments.store import KEYS, Run, metrics_table, write_json
from veneer.finetune.cell import Cell, Origin, Stage
from veneer.finetune.fleet import EVALUATED, Evaluation
from veneer.finetune.recipe import Recipe
from veneer.models.config import TransformerConfig
from veneer.models.files import checksum, write_sealed
from veneer.models.transformer import Transformer
from veneer.pcfg.capability import LearnedCapability
from veneer.pcfg.families import SampleLayout
from veneer.pcfg.operand_task import OperandTask
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding
from veneer.tasks.mixture import fine_tuning, pretraining

EXPERIMENT = CounterExperiment(
    length=4,
    learning_rates=(0.1, 0.001),
    c_tr=(0.0, 1.0),
    reft_rates=(0.001,),
    iterations=20,
    reft_iterations=20,
    evaluation_samples=50,
    seeds=2,
    letters="ab<",
)
TASK = Counter(EXPERIMENT.letters, EXPERIMENT.length)
STEPS = (0, 10, 20)
SIZE = EXPERIMENT.length + 1
PCFG = PcfgCounterExperiment(
    pretrained=("L", "H"),
    learning_rates=(1e-3,),
    c_tr=(1.0,),
    reft_rates=(1e-3,),
    iterations=20,
    reft_iterations=20,
    evaluation_samples=50,
)


def model() -> Transformer:
    config = TransformerConfig(
        vocabulary=5, classes=5, positions=SIZE, width=6, blocks=2, heads=1, key_size=3, mlp_width=4
    )
    return Transformer(config)


def drawn_model(seed: int) -> Transformer:
    """Weights that a generator drew, so that two models answer differently."""
    return with_drawn_weights(model(), seed)


def with_drawn_weights(found: Transformer, seed: int) -> Transformer:
    generator = torch.Generator().manual_seed(seed)
    for parameter in found.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return found


def attention(seed: int) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 1, SIZE, SIZE, generator=drawn).softmax(-1)
    tokens = torch.tensor([1, 2, 3, 4, 2])
    return {
        "example": maps,
        "mean": maps.clone(),
        "example_tokens": tokens,
        "by_token": maps[:, :, 2, :5].contiguous(),
    }


def cells_of(experiment: CounterExperiment) -> list[Cell]:
    """By seed: each setting's fine-tuning and reFTs, then Scr. + FT, its reFTs, and Scr."""
    evaluation, cells = Evaluation(experiment.evaluation_samples, STEPS), []
    updates = experiment.reft_iterations
    refts = [Stage("reft", pretraining(), Recipe("sgd", rate, updates)) for rate in experiment.reft_rates]
    for seed in experiment.seed_numbers:
        for rate in experiment.learning_rates:
            for c_tr in experiment.c_tr:
                tune = Stage("fine-tune", fine_tuning(c_tr), Recipe("sgd", rate, experiment.iterations))
                first = Cell(origin(seed), TASK, tune, evaluation, seed)
                cells += [first, *(Cell(first, TASK, reft, evaluation, seed) for reft in refts)]
        tune = Stage("fine-tune", fine_tuning(0.0), Recipe("sgd", 0.1, experiment.iterations))
        first = Cell(origin(seed, "scratch"), TASK, tune, evaluation, seed)
        cells += [first, *(Cell(first, TASK, reft, evaluation, seed) for reft in refts)]
        cells += [Cell(origin(seed, "scratch"), TASK, reft, evaluation, seed) for reft in refts]
    return cells


def origin(seed: int, start: str = "capability") -> Origin:
    return Origin("written by hand", "compiled", 1e-4 if start == "capability" else 0.0, seed, start)


def accuracies(cell: Cell) -> Tensor:
    """Evaluation, kind, operand. After 0.001 with C_Tr = 1 reFT revives O_PT, after all else it does not."""
    number = int(cell.id, 16) % 1000 / 20_000
    values = torch.full((len(STEPS), len(EVALUATED), 2), 0.2 + number, dtype=torch.float64)
    if not isinstance(cell.start, Cell):
        values[1:, 0, 1] = 0.95 + number
    elif (
        cell.origin.start == "capability"
        and cell.start.stage.recipe.learning_rate == 0.001
        and cell.start.stage.mixture == fine_tuning(1.0)
    ):
        values[1:, EVALUATED.index("natural"), 0] = 0.93 + number
    return values


def store(run: Run, cell: Cell, diverged: int = -1) -> None:
    table = metrics_table(STEPS, accuracies(cell), accuracies(cell), torch.zeros(len(STEPS)), EVALUATED)
    number = int(cell.id[:6], 16)
    run.write_cell(cell, drawn_model(number), table, attention(number), diverged)


def write_surroundings(run: Run, cells: list[Cell]) -> None:
    run.plan(cells, len(cells))
    run.write_environment(torch.device("cpu"))
    write_baselines(run, cells[0].task_id)
    capability = CompiledCapability(
        model=model(),
        vocabulary=("#", "BOS", "a", "b", "<"),
        bos="BOS",
        pad="#",
        classes=(0, 1, 2, 3, 4),
        residual_labels=("one",) * 6,
        max_length=EXPERIMENT.length,
        causal=False,
        mlp_exactness=77,
        answer_position=2,
        source="Counter of 'a', by hand",
    )
    for seed in sorted({cell.seed for cell in cells}):
        folder = run.capability_path(origin(seed))
        capability.save(folder)
        save_file(attention(seed), folder / "attention.safetensors")
        right = {
            when: {kind: {"pt": pt, "ft": 0.2} for kind in EVALUATED}
            for when, pt in (("without_noise", 1.0), ("as_started", 0.9875))
        }
        about = {"kind": "written", "parameters": 100, "exactness": 77, "noise": 1e-4}
        files = {file.name: checksum(file) for file in folder.iterdir()}
        content = {"origin": asdict(origin(seed)), "texts": 4000, "accuracy": right, "about": about}
        write_sealed(folder / "accuracy.json", {**content, "files": files})


def write_baselines(run: Run, task_id: str) -> None:
    entry = {"majority": {"pt": 0.3, "ft": 0.31}, "answer": {"pt": 1, "ft": 2}, "shortcut": 0.0}
    write_json(
        run.path / "baselines.json", {task_id: {"samples": 50, "texts": dict.fromkeys(EVALUATED, entry)}}
    )


def learned_run(folder: Path, names: tuple[str, str] = ("L", "H")) -> Run:
    """Two learned capabilities with one setting each; reFT revives the first alone."""
    run, layout = (
        Run.open(folder, "quick", replace(PCFG, pretrained=names)),
        SampleLayout(window=6, count_last=4, occurrence=1, token_back=2),
    )
    task, cells = OperandTask(layout), []
    for name, prior in zip(names, ((0.999, 0.001, 0.0), (0.5, 0.3, 0.2)), strict=True):
        begin = Origin(f"weights of {name}", name, 0.0, 0)
        tune = Stage("fine-tune", fine_tuning(1.0), Recipe("adamw", 1e-3, 20))
        first = Cell(begin, task, tune, Evaluation(50, STEPS), 0)
        back = Stage("reft", pretraining(), Recipe("adamw", 1e-3, 20))
        cells += [first, Cell(first, task, back, Evaluation(50, STEPS), 0)]
        write_learned(run, begin, layout, prior)
    write_baselines(run, task_id=cells[0].task_id)
    run.plan(cells, len(cells))
    for cell in cells:
        values = torch.full((len(STEPS), len(EVALUATED), 2), 0.25, dtype=torch.float64)
        values[-1, EVALUATED.index("natural"), 0] = 0.97 if cell.origin.name == names[0] else 0.25
        if not isinstance(cell.start, Cell):
            values[-1] = torch.tensor([0.25, 0.62])
        table = metrics_table(STEPS, values, values, torch.zeros(len(STEPS)), EVALUATED)
        own = learned_model(layout, int(cell.id[:6], 16))
        run.write_cell(cell, own, table, learned_attention(layout), -1)
    return run


def learned_model(layout: SampleLayout, seed: int) -> Transformer:
    """Weights that a generator drew, so that L and H answer differently."""
    words, size = len(layout.vocabulary), layout.length
    config = TransformerConfig(
        vocabulary=words, classes=words, positions=size, width=6, blocks=2, heads=1, key_size=3, mlp_width=4
    )
    return with_drawn_weights(Transformer(config), seed)


def write_learned(run: Run, begin: Origin, layout: SampleLayout, prior: tuple[float, ...]) -> None:
    model = learned_model(layout, zlib.crc32(begin.name.encode()))
    capability = LearnedCapability(model, layout, prior, 3, 6000, {"C a": 0.99}, "veneer pretrain x")
    folder = run.capability_path(begin)
    capability.save(folder / "model")
    save_file(learned_attention(layout), folder / "attention.safetensors")
    right = {kind: {"pt": 0.991, "ft": 0.4} for kind in EVALUATED}
    accuracy = {when: right for when in ("without_noise", "as_started")}
    about = {"kind": "learned", "parameters": 1234, "operand_prior": prior, "iterations": 6000, "seed": 3}
    about |= {"accuracy": {"C a": 0.99}, "command": f"veneer pretrain {begin.name}"}
    write_json(
        folder / "accuracy.json",
        {"origin": asdict(begin), "texts": 2000, "accuracy": accuracy, "about": about},
    )


def learned_attention(layout: SampleLayout) -> dict[str, Tensor]:
    words = ["SOS", "C", "@4", "?a", "SOT", *"abcbab", "EOT", "ART"]
    tokens = torch.tensor([layout.id.get(word, layout.id["NULL"]) for word in words])
    size = len(tokens)
    maps = torch.rand(2, 1, size, size).softmax(-1)
    by_token = torch.zeros(2, 1, len(layout.vocabulary))
    by_token[..., tokens] = 1 / size
    return {
        "example": maps,
        "mean": maps.clone(),
        "example_tokens": tokens,
        "by_token": by_token,
        "mlp": maps[0, 0].clone(),
    }


def store_analysis(run: Path, name: str, rows: list[dict[str, Any]] | pl.DataFrame) -> None:
    """A table as ``veneer analyse`` writes it; what is not said is null."""
    table, kinds = pl.DataFrame(rows, infer_schema_length=None), COLUMNS[name]
    missing = [pl.lit(None, kind).alias(key) for key, kind in kinds.items() if key not in table.columns]
    (run / "analysis").mkdir(parents=True, exist_ok=True)
    table.with_columns(missing).cast({**kinds}).write_parquet(run / "analysis" / f"{name}.parquet")


def analysed_run(folder: Path) -> Run:
    """A run with all its files, made without any training."""
    run, cells = Run.open(folder, "quick", EXPERIMENT), cells_of(EXPERIMENT)
    write_surroundings(run, cells)
    for cell in cells:
        store(run, cell)
    analysed(run, cells)
    return run


def analysed(run: Run, cells: list[Cell]) -> None:
    """The tables of ``veneer analyse``, made by the analyses themselves from tiny models."""
    encoding = Encoding.between(TASK, ("#", "BOS", "a", "b", "<"), (0, 1, 2, 3, 4), "BOS", "#", 2)
    torch.manual_seed(0)
    before, after = model(), model()
    pruned = prune(after, TASK, encoding, Pruning((1, 2), draws=2, gradient_texts=8, samples=8))
    tables = {
        "pruning": pruned.accuracy,
        "classes": pruned.classes,
        "grafting": graft(before, after, TASK, encoding, Grafting(samples=8, singles=2)),
        "movement": movement(before, after),
        "probes": probe(after, TASK, encoding, ProbeSettings(train=40, test=20)),
        "attention": operand_shares(after, TASK, encoding, samples=8).table(),
    }
    keys = {
        "cell": cells[0].id,
        "parent": "",
        "capability": "compiled",
        "start": "capability",
        "task": cells[0].task_id,
        "stage": "fine-tune",
        "learning_rate": 0.1,
        "fine_tuning_rate": 0.1,
        "c_tr": 0.0,
        "seed": 0,
        "status": "done",
    }
    (run.path / "analysis").mkdir()
    columns = [pl.lit(keys[name], kind).alias(name) for name, kind in KEYS.items()]
    for name, table in tables.items():
        table.select(*columns, pl.exclude("member")).write_parquet(run.path / "analysis" / f"{name}.parquet")
    setting = {"capability": "compiled", "task": cells[0].task_id, "fine_tuning_rate": 0.001, "c_tr": 1.0}
    verdict = {"start": "capability", "kind": "rewritten", "strength": "weak", "seeds": 2}
    lists = {"reasons": ["It took as long as from scratch."], "needed": []}
    store_analysis(run.path, "verdicts", [{**setting, **verdict, **lists}])
    time = {"threshold": 0.5, "seeds": 2, "reached": 2, "low": 10.0, "high": 40.0, "learning_rate": 0.001}
    control = {**setting, "fine_tuning_rate": 0.1, "c_tr": 0.0}
    survival = [
        {**setting, "arm": "reft", **time, "median": 17.0},
        {**control, "arm": "scratch-ft", **time, "median": 1234.0},
    ]
    store_analysis(run.path, "survival", survival)
    ratio = {"learning_rate": 0.001, "threshold": 0.5, "control": "scratch-ft", "ratio": 72.6, "low": 60.0}
    store_analysis(run.path, "ratios", [{**setting, **ratio, "high": 90.0, "seeds": 2}])
