"""Labelled datasets as folders of Parquet or JSON lines, for models and methods that are not ours.

::

    README.md        dataset card: what it is, how it was made, baselines, checksums
    dataset.json     the same for programs; written last
    croissant.json   the same in MLCommons' Croissant format
    data/            SPLIT-00000-of-00003.parquet, ...
    figures/         the card's pictures

Everything follows from a plan: the same plan and versions give the same bytes, whatever the number of
processes. Until it is complete the folder is called ``NAME.partial``; finished files in it, recognized
by their checksums, are not made again. No text occurs twice, in one split or in two.
"""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from veneer.finetune.workers import end_with_driver
from veneer.models.files import (
    Each,
    alone,
    check_unused,
    checksum,
    put_in_place,
    read_json,
    read_text,
    write_text,
)
from veneer.suites import statistics
from veneer.suites import table as dataset_table
from veneer.suites.croissant import FILE, croissant
from veneer.suites.made_with import versions
from veneer.suites.plan import FORMAT, Plan, Shard, check_capacity
from veneer.suites.repeated import repeated_rows
from veneer.suites.rows import Rows, draw_rows, replace_rows
from veneer.suites.sources import Make, Source
from veneer.tasks.errors import InputError
from veneer.tasks.extras import need

Progress = Callable[[int], None]
MOST_SAMPLES = 10**9
BYTES_OF_ROW, COMPRESSED = 60, 2  # beside text and tokens; how much smaller the files are, at least
STATE = {"files": Each(str), "fingerprints": str, "columns": Each(str), "joint": [list], "lengths": [list]}


def generate(
    plan: Plan,
    make: Make,
    out: str | os.PathLike[str],
    jobs: int = 1,
    progress: Progress = lambda samples: None,
) -> Path:
    """Make a dataset.

    Args:
        plan: what it is to hold.
        make: the task's sources; a function of a module, so that other processes find it.
        out: the folder; it must not exist, or be empty.
        jobs: processes.
        progress: called with the number of samples of each finished file.

    Raises:
        InputError: a folder that is in use, or more samples than there are different texts. Nothing
            is left behind then.
    """
    out = Path(out)
    if jobs < 1:
        raise InputError("jobs", jobs, "1 or more processes")
    need("figures")  # of its card
    with alone(out) as waited:
        if waited and made_as(plan, out):
            progress(plan.samples)
            return out
        check_unused(out)
        check_room(plan, out)
        check_capacity(plan, make)
        partial = _open_partial(plan, out)
        try:
            _write_shards(plan, make, partial, jobs, progress)
            _replace_repeated(plan, make, partial)
            _number_labels(plan, partial)
            finish(plan, make, partial)
        except InputError:
            shutil.rmtree(partial)
            raise
        if out.exists():
            out.rmdir()
        put_in_place(partial, out)
    return out


def made_as(plan: Plan, out: Path) -> bool:
    """Whether a folder holds the dataset of this plan."""
    try:
        manifest = read_json(out / "dataset.json", {"plan": dict, "command": str})
    except InputError:
        return False
    described = {name: value for name, value in plan.to_json().items() if name != "command"}
    described["task"] = {name: value for name, value in plan.task.items() if name != "local"}
    return manifest["plan"] == json.loads(json.dumps(described))


def check_room(plan: Plan, out: Path) -> None:
    """Refuse more samples than the disk has room for, or than any machine makes in days.

    Raises:
        InputError: it says how much they would take.
    """
    length = plan.task.get("window") or plan.task.get("max_length") or plan.task["length"]
    need = plan.samples * (length + BYTES_OF_ROW) // COMPRESSED
    place = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if plan.samples > MOST_SAMPLES or need > free:
        problem = f"they take some {need / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free"
        raise InputError(
            "samples", plan.samples, f"at most {MOST_SAMPLES:,}, and what the disk holds", problem
        )


def _open_partial(plan: Plan, out: Path) -> Path:
    """The folder of an unfinished dataset of the same plan and versions, or a new one."""
    partial = out.with_name(f"{out.name}.partial")
    described = json.dumps({"plan": plan.to_json(), "made_with": versions()}, sort_keys=True)
    file = partial / "plan.json"
    if file.exists() and read_text(file) != described:
        problem = f"{partial} holds an unfinished dataset of another command or version"
        raise InputError("out", str(out), "another folder, or remove the unfinished one", problem)
    if partial.exists() and not file.exists() and any(partial.iterdir()):
        raise InputError("out", str(out), "another folder", f"{partial} is in the way")
    try:
        (partial / "state").mkdir(parents=True, exist_ok=True)
        (partial / "data").mkdir(exist_ok=True)
        write_text(file, described)
    except OSError as error:
        raise InputError("out", str(out), "a folder that can be written", str(error)) from error
    return partial


def _write_shards(plan: Plan, make: Make, folder: Path, jobs: int, progress: Progress) -> None:
    missing = []
    for shard in plan.shards():
        if _finished(folder, shard, plan):
            progress(shard.end - shard.begin)
        else:
            missing.append(shard)
    if jobs == 1 or len(missing) <= 1:
        work = _Work(plan, make, folder)
        for shard in missing:
            progress(work.write(shard))
        return
    with (
        _single_threaded(),
        ProcessPoolExecutor(
            min(jobs, len(missing)),
            mp_context=multiprocessing.get_context("spawn"),  # forking would copy polars' locks
            initializer=_begin_work,
            initargs=(plan.to_json(), make, folder),
        ) as pool,
    ):
        try:
            for samples in pool.map(_write_shard, missing):
                progress(samples)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes that begin in here use one thread each."""
    names = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Work:
    """Writes shards; keeps the sources of each split."""

    def __init__(self, plan: Plan, make: Make, folder: Path) -> None:
        self.plan, self.folder, self._make = plan, folder, make
        self._sources: dict[int, Sequence[Source]] = {}

    def sources(self, shard: Shard) -> Sequence[Source]:
        if shard.split not in self._sources:
            self._sources[shard.split] = self.plan.sources(self._make, self.plan.splits[shard.split])
        return self._sources[shard.split]

    def write(self, shard: Shard) -> int:
        """Draw and store a shard; returns its number of samples."""
        try:
            self.store(shard, draw_rows(self.plan, shard, self.sources(shard)))
        except OSError as error:
            raise InputError(
                "out", str(self.folder), "a disk with room for the dataset", str(error)
            ) from error
        return shard.end - shard.begin

    def store(self, shard: Shard, rows: Rows) -> None:
        """Write a shard's files and what has to be known of them later."""
        sources = self.sources(shard)
        table = dataset_table.table(rows, sources, self.plan.first_id(shard.split) + shard.begin)
        files = [self.plan.file(shard, kind) for kind in self.plan.formats]
        for kind, name in zip(self.plan.formats, files, strict=True):
            dataset_table.write(table, self.folder / name, kind)
        state = _state(self.folder, shard)
        np.save(state.with_suffix(".npy"), rows.fingerprint)
        counts = [[*key, n] for key, n in sorted(statistics.joint(table).items(), key=repr)]
        sizes, times = np.unique(rows.sizes, return_counts=True)
        content = {
            "files": {name: checksum(self.folder / name) for name in files},
            "fingerprints": checksum(state.with_suffix(".npy")),
            "columns": {name: str(kind) for name, kind in table.schema.items()},
            "joint": counts,
            "lengths": list(zip(sizes.tolist(), times.tolist(), strict=True)),
        }
        write_text(state, json.dumps(content))


_work: _Work | None = None


def _begin_work(plan: dict[str, Any], make: Make, folder: Path) -> None:
    global _work
    torch.set_num_threads(1)
    end_with_driver()
    _work = _Work(Plan.from_json(plan), make, folder)


def _write_shard(shard: Shard) -> int:
    assert _work is not None
    return _work.write(shard)


def _state(folder: Path, shard: Shard) -> Path:
    return folder / "state" / f"{shard.split}-{shard.number}.json"


def _finished(folder: Path, shard: Shard, plan: Plan) -> bool:
    """Whether a shard's files are there and are what was written."""
    state = _state(folder, shard)
    if not state.exists():
        return False
    try:
        content = read_json(state, STATE)
    except InputError:  # damaged: the shard is made again
        return False
    expected = {folder / name: sha for name, sha in content["files"].items()}
    expected[state.with_suffix(".npy")] = content["fingerprints"]
    return all(checksum(path) == sha for path, sha in expected.items())


def _replace_repeated(plan: Plan, make: Make, folder: Path) -> None:
    """Give samples whose text occurs in an earlier file another text.

    The later of two equal texts goes, so the first split keeps all of its own.
    """
    shards = plan.shards()
    repeated = repeated_rows([_fingerprints(folder, shard) for shard in shards])
    if not repeated:
        return
    known = np.unique(np.concatenate([np.load(_fingerprints(folder, shard)) for shard in shards]))
    work = _Work(plan, make, folder)
    for index in sorted(repeated):
        shard = shards[index]
        rows, places = draw_rows(plan, shard, work.sources(shard)), repeated[index]
        replace_rows(rows, places, plan, shard, work.sources(shard), known)
        work.store(shard, rows)
        known = np.sort(np.concatenate([known, rows.fingerprint[places]]))


def _number_labels(plan: Plan, folder: Path) -> None:
    """Give labels that only drawing found a column ``label_id``: their places among all of them, in order.

    What a loader turns into tensors must be numbers; a program's answers are words in the files.
    """
    shards = plan.shards()
    states = [read_json(_state(folder, shard), STATE) for shard in shards]
    if "label_id" in states[0]["columns"] or states[0]["columns"]["label"] != "String":
        return
    names = sorted({str(row[i]) for state in states for row in state["joint"] for i in (1, 2)}, key=_in_order)
    number = {name: place for place, name in enumerate(names)}
    for shard, state in zip(shards, states, strict=True):
        for kind in plan.formats:
            name = plan.file(shard, kind)
            table = dataset_table.read(folder / name).cast(
                {n: _type_of(k) for n, k in state["columns"].items()}
            )
            ids = table["label"].replace_strict(number, return_dtype=pl.Int32).alias("label_id")
            dataset_table.write(table.with_columns(ids), folder / name, kind)
            state["files"][name] = checksum(folder / name)
        state["columns"]["label_id"] = "Int32"
        write_text(_state(folder, shard), json.dumps(state))


def _in_order(word: str) -> tuple[int, float, str]:
    """Numbers by size, then words."""
    try:
        return 0, float(word), word
    except ValueError:
        return 1, 0.0, word


def _type_of(word: str) -> pl.DataType:
    return dataset_table.TYPES[word]


def _fingerprints(folder: Path, shard: Shard) -> Path:
    return _state(folder, shard).with_suffix(".npy")


def finish(plan: Plan, make: Make, folder: Path) -> None:
    """Write pictures, card and ``dataset.json``, and remove what was only needed on the way."""
    from veneer.suites.card import write_card

    for left in (*folder.glob(".*.tmp"), *(folder / "data").glob(".*.tmp")):
        left.unlink()  # of a process that was killed while it wrote
    sources = plan.sources(make, plan.splits[0])
    manifest = json.loads(json.dumps(_manifest(plan, sources[0], folder)))
    write_card(manifest, folder)
    write_text(folder / FILE, json.dumps(croissant(manifest), indent=1, ensure_ascii=False) + "\n")
    for name in (
        "README.md",
        FILE,
        *(f"figures/{file.name}" for file in sorted((folder / "figures").iterdir())),
    ):
        manifest["files"][name] = _described(folder / name)
    shutil.rmtree(folder / "state")
    write_text(folder / "dataset.json", json.dumps(manifest, indent=1) + "\n")
    (folder / "plan.json").unlink()


def _manifest(plan: Plan, source: Source, folder: Path) -> dict[str, Any]:
    shards = plan.shards()
    states = [read_json(_state(folder, shard), STATE) for shard in shards]
    splits = {}
    for index, split in enumerate(plan.splits):
        ours = [state for shard, state in zip(shards, states, strict=True) if shard.split == index]
        counts = statistics.add({tuple(row[:-1]): row[-1] for row in state["joint"]} for state in ours)
        sizes = statistics.add(dict(state["lengths"]) for state in ours)
        order = statistics.order(source.answers if source.numbered else None, counts)
        splits[split.name] = {
            "first_id": plan.first_id(index),
            **statistics.summarize(counts, sizes, order).to_json(),
        }
    described = {name: value for name, value in plan.to_json().items() if name != "command"}
    described["task"] = {name: value for name, value in plan.task.items() if name != "local"}
    frame, names = source.frame, [name for state in states for name in state["files"]]
    return {
        "format": FORMAT,
        "name": plan.name,
        "command": plan.command,
        "made_with": versions(),
        "plan": described,
        "columns": states[0]["columns"],
        "q": source.q,
        "letters": [dataset_table.word(letter) for letter in frame.letters],
        "vocabulary": list(frame.vocabulary),
        "answers": list(source.answers) if source.numbered else None,
        "splits": splits,
        "files": {name: _described(folder / name) for name in sorted(names)},
    }


def _described(file: Path) -> dict[str, Any]:
    return {"sha256": checksum(file), "bytes": file.stat().st_size}
