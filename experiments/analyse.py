"""``veneer analyse``: look inside the models of a run, and write one table per analysis.

``RUN/analysis/NAME.parquet`` has the columns that identify a cell (``store.KEYS``) in front, then those
of the analysis. Here models are read, put into fleets, and named; ``veneer.experiments.inside`` says
which functions of ``analysis`` make their tables. A table that is complete is not made again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import torch

from veneer.experiments.cells import Prepared, third_task
from veneer.experiments.evidence import verdict_table
from veneer.experiments.inside import PER_MODEL, Group, Tables, task_tokens
from veneer.experiments.named import PRESETS, THIRD
from veneer.experiments.origins import CAPABILITY, CONSTRUCTIONS
from veneer.experiments.returns import revival_tables
from veneer.experiments.store import KEYS, Run
from veneer.experiments.sweep import Sweep, prepare_sweep
from veneer.finetune.cell import Cell, Origin
from veneer.finetune.processor import fitted, in_processes, is_small, threads_for
from veneer.models.files import read_table, write_table
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import MarkedTask
from veneer.tasks.errors import InputError

TOGETHER = 4  # models analysed at once: on a CPU more of them leave its cache
ANALYSES: dict[str, str] = {
    "pruning": "zero the weights that most hide O_PT, beside random ones; search few of them by trying",
    "grafting": "give components their earlier values back, and count what moved",
    "probes": "linear probes for both operands' answers, after each block",
    "attention": "attention on the tokens that each operand is read from, and what hiding them changes",
    "jailbreak": "the same question through every task token of the family",
    "revival": "updates to 50, 90 and 99 %, against models trained from scratch",
    "verdicts": "wrapped, rewritten, or what is missing, with reasons (needs the others)",
}
Found = tuple[list[dict[str, Any]], Callable[[], Tables]]
"""The identifying columns of a group's models, and what waits for their tables."""


@dataclass(frozen=True)
class Selection:
    """Which fine-tuned models to look into; an empty list means all. Controls are always taken.

    Attributes:
        capabilities: names of capabilities.
        rates: fine-tuning rates.
        c_tr: shares of correlated samples.
        seeds: seeds.
    """

    capabilities: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    c_tr: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()

    def takes(self, keys: dict[str, Any]) -> bool:
        """Whether a cell with these identifying columns is looked into."""
        if keys["start"] != CAPABILITY:
            return True
        wanted = {
            "capability": self.capabilities,
            "fine_tuning_rate": self.rates,
            "c_tr": self.c_tr,
            "seed": self.seeds,
        }
        return all(not values or keys[name] in values for name, values in wanted.items())


def analyse(
    run: Run,
    device: torch.device,
    names: tuple[str, ...] = tuple(ANALYSES),
    say: Callable[[str], None] = lambda text: None,
    selection: Selection | None = None,
    jobs: int = 1,
) -> list[Path]:
    """Make the tables of a run that are not there yet.

    Args:
        run: a run with finished cells.
        device: where to compute.
        names: which analyses (see ``ANALYSES``).
        say: told what is being done.
        selection: which fine-tuned models pruning, grafting, probes and attention look into.
        jobs: processes that look into small models on a CPU; large ones fill the cores by themselves.

    Returns:
        The tables, made now or before.

    Raises:
        InputError: an analysis that does not exist, or a run that lacks what it needs: the stage that
            is missing is named, with the command that makes it.
    """
    for name in names:
        if name not in ANALYSES:
            raise InputError("analysis", name, ", ".join(ANALYSES))
    prepared, _ = prepare_sweep(sweep_in(run), run)
    largest = max(source.model.parameter_count for source in prepared.sources.values())
    jobs = jobs if device.type == "cpu" and is_small(largest) else 1
    with fitted(threads_for(largest)), in_processes(jobs) as begin:
        return _analyse(prepared, run, device, names, say, selection or Selection(), begin, jobs > 1)


def _analyse(
    prepared: Prepared,
    run: Run,
    device: torch.device,
    names: tuple[str, ...],
    say: Callable[[str], None],
    selection: Selection,
    begin: Callable[..., Callable[[], Any]],
    ahead: bool,
) -> list[Path]:
    cells = _chosen(_finished(prepared, run), run, selection)
    made: list[Path] = []
    asked = [name for name in names if name in PER_MODEL]
    if not any(len(task_tokens(cell.task)) > 1 for cell in cells):
        asked = [name for name in asked if name != "jailbreak"]
    if not all(isinstance(cell.task, MarkedTask) for cell in cells):  # what a program reads, it alone knows
        asked = [name for name in asked if name != "attention"]
    start = cache(prepared.start)  # drawing noise takes as long as reading a model
    found: dict[str, Iterable[Found]] = {
        name: _found(PER_MODEL[name], _groups(prepared, start, run, *_looked_at(name, cells), device), begin)
        for name in asked
        if not _is_complete(name, run, cells)
    }
    if ahead:  # so that no worker waits for the end of an analysis
        found = {name: list(parts) for name, parts in found.items()}
    times: list[Path] = []
    if "revival" in names:  # here, while workers are at the others
        say("revival")
        times = _write(run, revival_tables(run))
    for name in asked:
        made += _gathered(name, found[name], run, say) if name in found else _tables_of(name, run)
    made += times
    if "verdicts" in names:
        say("verdicts")
        made += _write(run, {"verdicts": verdict_table(run)})
    return made


def sweep_in(run: Run) -> Sweep:
    """The experiments of a run, as values: one, or a grid.

    Raises:
        InputError: a run of another version.
    """
    described = run.experiment
    kind = PRESETS[described["name"]]["quick"]
    known = {field.name for field in fields(kind)}
    values = {name: _restored(value) for name, value in described["fields"].items() if name in known}
    axes = {name: _restored(value) for name, value in described.get("axes", {}).items()}
    return Sweep(replace(kind, **values), axes)


def _restored(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _finished(prepared: Prepared, run: Run) -> list[Cell]:
    """The cells that are done, of which there must be a fine-tuned one."""
    status = {cell["id"]: cell["status"] for cell in run.cells()}
    if status and not any(cell.id in status for cell in prepared.cells):
        problem = "its cells are not those that this version makes of its experiment.json"
        valid = "a run of this version; read it with the one in its environment.json, or run it again"
        raise InputError("run", str(run.path), valid, problem)
    cells = [cell for cell in prepared.cells if status.get(cell.id) == "done"]
    if not any(cell.stage.name == "fine-tune" and cell.origin.start == "capability" for cell in cells):
        problem = "no fine-tuning in it is finished"
        if status:
            problem = "all its fine-tunings diverged"
        valid = f"a run with a finished fine-tuning: veneer run {run.experiment['name']} --out {run.path}"
        raise InputError("run", str(run.path), valid, problem)
    return cells


def _chosen(cells: list[Cell], run: Run, selection: Selection) -> list[Cell]:
    described = {cell["id"]: cell for cell in run.cells()}
    found = [cell for cell in cells if selection.takes(run.keys(described[cell.id]))]
    if not any(cell.origin.start == CAPABILITY for cell in found):
        asked = {
            field.name: list(value)
            for field in fields(selection)
            if (value := getattr(selection, field.name))
        }
        named = " and ".join(f"{name} {', '.join(map(str, values))}" for name, values in asked.items())
        valid = "values of a finished fine-tuning of the run; veneer status RUN says how many are finished"
        raise InputError("selection", named, valid, "no finished fine-tuning of the capability has them")
    return found


def _is_looked_at(name: str, cell: Cell) -> bool:
    """Which models an analysis is about: pruning and grafting look at what fine-tuning left."""
    tuned, own = cell.stage.name == "fine-tune", cell.origin.start == CAPABILITY
    if name in ("pruning", "grafting"):
        return tuned and own
    return tuned or (name in ("attention", "jailbreak") and own and cell.stage.name != THIRD)


def _are_looked_at(name: str, cells: list[Cell]) -> list[Origin]:
    """Which models are looked at before any training: capabilities, and constructed ones for the verdict."""
    origins = list(dict.fromkeys(cell.origin for cell in cells))
    if name in ("pruning", "grafting"):
        return [origin for origin in origins if origin.start in CONSTRUCTIONS]
    return [origin for origin in origins if origin.start == CAPABILITY]


def _looked_at(name: str, cells: list[Cell]) -> tuple[list[Cell], dict[Origin, Cell]]:
    """The fine-tuned models that an analysis is about, and a cell of each origin that it looks at."""
    examples = {
        origin: next(c for c in cells if c.origin == origin) for origin in _are_looked_at(name, cells)
    }
    return [cell for cell in cells if _is_looked_at(name, cell)], examples


def _is_complete(name: str, run: Run, cells: list[Cell]) -> bool:
    """Whether an analysis was made of just these models."""
    tuned, examples = _looked_at(name, cells)
    wanted = {*(cell.id for cell in tuned), *map(_origin_id, examples)}
    main = run.path / "analysis" / f"{name}.parquet"
    return _cells_in(main) == wanted


def _tables_of(name: str, run: Run) -> list[Path]:
    return sorted((run.path / "analysis").glob(f"{name}*.parquet"))


def _found(
    compute: Callable[[Group], Tables], groups: Iterator[Group], begin: Callable[..., Callable[[], Any]]
) -> Iterator[Found]:
    """What an analysis finds in each group: begun when it is reached here, waited for when it is called."""
    return ((group.keys, begin(compute, group)) for group in groups)


def _gathered(name: str, found: Iterable[Found], run: Run, say: Callable[[str], None]) -> list[Path]:
    """Wait for an analysis, and write its tables."""
    parts: dict[str, list[pl.DataFrame]] = {}
    done = 0
    say(name)
    for keys, result in found:
        for table, rows in result().items():
            parts.setdefault(table, []).append(_named(rows, keys))
        done += len(keys)
        say(f"{name}: {done} models")
    return _write(run, {table: pl.concat(rows, how="vertical_relaxed") for table, rows in parts.items()})


def _cells_in(file: Path) -> set[str]:
    """The models that a table is about; none where it is not there or damaged, for then it is made again."""
    try:
        return set(read_table(file, ["cell"])["cell"].to_list())
    except InputError:
        return set()


def _groups(
    prepared: Prepared,
    start: Callable[[Origin], Transformer],
    run: Run,
    cells: list[Cell],
    examples: dict[Origin, Cell],
    device: torch.device,
) -> Iterator[Group]:
    """The models in fleets of one task and capability."""
    described = {cell["id"]: cell for cell in run.cells()}
    entries = [(cell, run.keys(described[cell.id])) for cell in cells]
    entries += [(cell, _origin_keys(cell)) for cell in examples.values()]

    def kind(entry: tuple[Cell, dict[str, Any]]) -> tuple[str, str]:
        return entry[0].origin.capability, entry[0].task_id

    def load(cell: Cell, keys: dict[str, Any]) -> Transformer:
        return start(cell.origin) if keys["stage"] == CAPABILITY else run.load_model(cell)

    for _, same in groupby(sorted(entries, key=kind), key=kind):
        alike = list(same)
        for at in range(0, len(alike), TOGETHER):
            part = alike[at : at + TOGETHER]
            first = part[0][0]
            source = prepared.sources[first.origin.capability]
            before = [start(replace(cell.origin, start=CAPABILITY)) for cell, _ in part]
            yield Group(
                [keys for _, keys in part],
                Transformer.gather([load(*entry) for entry in part]).to(device),
                Transformer.gather(before).to(device),
                first.task,
                third_task(first.task, source),
                prepared.encoding(first),
                source.residual_labels,
                source.model.member(0).to(device),
            )


def _origin_id(origin: Origin) -> str:
    return f"{origin.name}-seed-{origin.seed}-{origin.start}"


def _origin_keys(example: Cell) -> dict[str, Any]:
    """Identifying columns of a model before any training; its stage is "capability"."""
    origin, none = example.origin, dict.fromkeys(KEYS, None)
    own = {"cell": _origin_id(origin), "parent": "", "capability": origin.name, "start": origin.start}
    own |= {"task": example.task_id, "stage": CAPABILITY, "seed": origin.seed, "status": "done"}
    return {**none, **own}


def _named(rows: pl.DataFrame, keys: list[dict[str, Any]]) -> pl.DataFrame:
    """The identifying columns in the place of ``member``."""
    named = pl.DataFrame(keys, schema=KEYS, strict=False).with_row_index("member")
    rows = rows.with_columns(pl.col("member").cast(pl.UInt32))
    return named.join(rows, on="member", maintain_order="right").drop("member")


def _write(run: Run, tables: Tables) -> list[Path]:
    """Each table as ``RUN/analysis/NAME.parquet``, whole or not at all."""
    folder, paths = run.path / "analysis", []
    try:
        folder.mkdir(exist_ok=True)
        for name, table in tables.items():
            path = folder / f"{name}.parquet"
            write_table(path, table)
            paths.append(path)
    except OSError as error:
        raise InputError("run", str(run.path), "a folder that can be written", str(error)) from error
    return paths
