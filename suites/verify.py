"""Whether a dataset is what its card says: files, schema, ids, labels, overlap, statistics.

Labels are recomputed from the text by a second, plain implementation that the caller gives, on a
sample of rows; all other checks read every row.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from veneer.models.files import Each, Perhaps, checksum, is_file, read_json
from veneer.suites import statistics
from veneer.suites import table as dataset_table
from veneer.suites.bulk import shuffled
from veneer.suites.plan import FORMAT, FileFormat, Plan, Shard, Split
from veneer.tasks.encoding import Value
from veneer.tasks.errors import InputError

Relabel = Callable[[list[str], str], Value]
"""From the tokens of a text and the name of an operand to the right answer."""

_SHOWN = 3


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        kind: "missing file", "damaged file", "foreign file", "unreadable file", "schema", "row count",
            "ids", "operands", "label", "correlated", "tokens", "held out", "duplicate", "overlap" or
            "statistics".
        where: file or split.
        what: what was found, in words.
    """

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """``dataset.json``.

    Raises:
        InputError: none there, or of another format version.
    """
    folder, valid = Path(folder), "a folder made by veneer generate"
    try:
        version = read_json(folder / "dataset.json", {"format": object}, valid)["format"]
        if version != FORMAT:
            raise InputError("DIR", str(folder), f"{valid} in format {FORMAT}", f"it is in format {version}")
        manifest = read_json(folder / "dataset.json", MANIFEST, valid)
    except InputError as error:
        if error.field == "DIR":
            raise
        problem = f"no readable dataset.json: {error.problem}"
        raise InputError("DIR", str(folder), valid, problem) from error
    if strange := set(manifest["columns"].values()) - set(dataset_table.TYPES):
        raise InputError("DIR", str(folder), valid, f"its columns are of types {', '.join(sorted(strange))}")
    return manifest


_SPLIT = {"name": str, "samples": int, "c": Perhaps(float), "held_out": bool}
_PLAN = {
    "name": str,
    "task": {"task": str, "about": str, "pairs": [[str]], "q": Perhaps(int)},
    "splits": [_SPLIT],
    "operand": str,
    "seed": int,
    "held_out_by": Perhaps(str),
    "held_out": [object],
    "shard_rows": int,
    "formats": [str],
    "license": str,
}
MANIFEST = {
    "name": str,
    "command": str,
    "plan": _PLAN,
    "columns": Each(str),
    "q": Perhaps(int),
    "letters": [str],
    "vocabulary": [str],
    "answers": Perhaps([object]),
    "splits": Each({"majority": float, "shortcut": Perhaps(float), "labels": dict, "samples": int}),
    "files": Each({"sha256": str, "bytes": int}),
}


def read_plan(manifest: dict[str, Any]) -> Plan:
    """The plan a dataset was made from."""
    known = {part.name for part in fields(Plan)}
    if strange := set(manifest["plan"]) - known:
        raise InputError("plan", sorted(strange), f"the fields {', '.join(sorted(known))}")
    plan = Plan.from_json({**manifest["plan"], "command": manifest["command"]})
    if lacking := {split.name for split in plan.splits} - set(manifest["splits"]):
        raise InputError("splits", sorted(lacking), "splits that dataset.json describes")
    return plan


def verify(folder: str | os.PathLike[str], relabel: Relabel | None, sample: int = 10_000) -> list[Problem]:
    """Check a dataset.

    Args:
        folder: the dataset.
        relabel: recomputes an answer; None leaves labels unchecked against the text.
        sample: in how many rows to recompute the answers, spread over all files.

    Raises:
        InputError: a folder that is no dataset.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    plan = read_plan(manifest)
    problems = list(_files(folder, manifest))
    for kind in plan.formats:
        checked = _Contents(folder, manifest, plan, kind, relabel, sample)
        problems += checked.problems()
    return problems


def _files(folder: Path, manifest: dict[str, Any]) -> Iterator[Problem]:
    for name, entry in manifest["files"].items():
        if not is_file(folder / name):
            yield Problem("missing file", name, "listed in dataset.json and not there")
        elif checksum(folder / name) != entry["sha256"]:
            yield Problem("damaged file", name, "its bytes are not those that were written (SHA-256 differs)")
    for file in sorted((folder / "data").glob("*")):
        if f"data/{file.name}" not in manifest["files"]:
            yield Problem("foreign file", f"data/{file.name}", "not listed in dataset.json")


class _Contents:
    """Checks of all rows in the files of one format."""

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        plan: Plan,
        kind: FileFormat,
        relabel: Relabel | None,
        sample: int,
    ) -> None:
        self.folder, self.manifest, self.plan = folder, manifest, plan
        self.kind: FileFormat = kind
        self.relabel, self.sample = relabel, sample
        self.spaced = any(len(letter) != 1 or letter.isspace() for letter in manifest["letters"])
        self.schema = {name: dataset_table.TYPES[word] for name, word in manifest["columns"].items()}

    def problems(self) -> list[Problem]:
        found: list[Problem] = []
        hashes, counts, sizes = [], {}, {}
        for shard in self.plan.shards():
            name, split = self.plan.file(shard, self.kind), self.plan.splits[shard.split]
            table = self._read(name, found)
            if table is None:
                continue
            found += [Problem(fault, name, what) for fault, what in self._shard(table, shard, split)]
            hashes.append((shard.split, table["text"].hash(seed=0).to_numpy()))
            counts.setdefault(split.name, []).append(statistics.joint(table))
            sizes.setdefault(split.name, []).append(statistics.lengths(table, self.spaced))
        found += self._repetitions(hashes)
        for split in self.plan.splits:
            if split.name in counts:
                ours = statistics.add(counts[split.name]), statistics.add(sizes[split.name])
                found += self._statistics(split, *ours)
        return found

    def _read(self, name: str, found: list[Problem]) -> pl.DataFrame | None:
        """A shard; None (and a problem) if it cannot be read or has other columns."""
        path = self.folder / name
        if not is_file(path):
            return None
        try:
            table = dataset_table.read(path)
        except (Exception, pl.exceptions.PanicException) as error:
            found.append(Problem("unreadable file", name, " ".join(str(error).split())[:200]))
            return None
        try:
            table = table.cast(self.schema) if self.kind == "jsonl" else table
        except pl.exceptions.PolarsError as error:
            found.append(Problem("schema", name, " ".join(str(error).split())[:200]))
            return None
        if dict(table.schema) != self.schema:
            got = ", ".join(f"{column} {kind}" for column, kind in table.schema.items())
            found.append(Problem("schema", name, f"columns are {got}"))
            return None
        return table

    def _shard(self, table: pl.DataFrame, shard: Shard, split: Split) -> Iterator[tuple[str, str]]:
        rows = shard.end - shard.begin
        if len(table) != rows:
            yield "row count", f"{len(table):,} rows instead of {rows:,}"
        first = self.plan.first_id(shard.split) + shard.begin
        expected = pl.Series(np.arange(first, first + len(table)))
        if wrong := _where(table, table["id"] != expected):
            yield "ids", f"not numbered {first}, {first + 1}, ...: {wrong}"
        yield from self._operands(table, split)
        asks_pt = pl.col("operand") == pl.col("operand_pt")
        answer = pl.when(asks_pt).then("result_pt").otherwise("result_ft")
        label = pl.col("label")
        if wrong := _where(table, table.select(label.ne_missing(answer)).to_series()):
            yield "label", f"not the result for the operand asked: {wrong}"
        if wrong := _where(table, self._held(table) != table["correlated"]):
            yield "correlated", f"not whether result_ft - result_pt is {self.manifest['q']}: {wrong}"
        yield from self._held_out(table, split)
        yield from self._sampled(table, shard)

    def _operands(self, table: pl.DataFrame, split: Split) -> Iterator[tuple[str, str]]:
        task = self.plan.task
        pairs = task["held_out_pairs"] if split.held_out and task.get("held_out_pairs") else task["pairs"]
        known = {(str(pt), str(ft)) for pt, ft in pairs}
        for pt, ft, asked in table.select("operand_pt", "operand_ft", "operand").unique().rows():
            if (pt, ft) not in known or asked not in (pt, ft):
                yield "operands", f"{asked!r} asked of O_PT {pt!r} and O_FT {ft!r}, which the split has not"

    def _held(self, table: pl.DataFrame) -> pl.Series:
        """Whether the difference of the results is q."""
        q = self.manifest["q"]
        if q is None:
            return pl.Series(np.zeros(len(table), dtype=bool))
        words = set(table["result_pt"].unique()) | set(table["result_ft"].unique())
        order = statistics.order(self.manifest["answers"], {("", word, word, False): 1 for word in words})
        numbers = [
            table[name].replace_strict(order, default=float("nan"), return_dtype=pl.Float64)
            for name in ("result_pt", "result_ft")
        ]
        return numbers[1] - numbers[0] == q

    def _held_out(self, table: pl.DataFrame, split: Split) -> Iterator[tuple[str, str]]:
        by, values = self.plan.held_out_by, list(self.plan.held_out)
        if by is None:
            return
        length = pl.col("text").str.count_matches(" ") + 1 if self.spaced else pl.col("text").str.len_chars()
        column = table.select(length if by == "length" else pl.col("label")).to_series()
        inside = column.cast(pl.String).is_in(pl.Series([str(v) for v in values], dtype=pl.String).implode())
        if wrong := _where(table, inside != split.held_out):
            yield "held out", f"{by} {values} belong{' only' if split.held_out else ' elsewhere'}: {wrong}"

    def _sampled(self, table: pl.DataFrame, shard: Shard) -> Iterator[tuple[str, str]]:
        """Recompute answers and tokens of some rows from their text."""
        wanted = -(-self.sample * (shard.end - shard.begin) // self.plan.samples)
        rows = np.sort(shuffled(shard.number, len(table))[:wanted])
        names, answers, tokens = self.manifest["vocabulary"], [], []
        for row in table[rows].iter_rows(named=True):
            text = row["text"].split(" ") if self.spaced else list(row["text"])
            if self.relabel is not None:
                for which in ("pt", "ft"):
                    right = self.relabel(text, row[f"operand_{which}"])
                    if str(right) != str(row[f"result_{which}"]):
                        answers.append(
                            f"id {row['id']}: result_{which} {row[f'result_{which}']}, not {right}"
                        )
            read = [names[i] if i < len(names) else "?" for i in row["tokens"]]
            if not any(read[i : i + len(text)] == text for i in range(len(read))):
                tokens.append(f"id {row['id']}")
            elif row["answer_position"] is not None and not 0 <= row["answer_position"] < len(read):
                tokens.append(f"id {row['id']}, answer_position {row['answer_position']}")
        if answers:
            yield "label", f"{_listed(answers)} (recomputed from the text)"
        if tokens:
            yield "tokens", f"they do not hold the text: {_listed(tokens)}"

    def _repetitions(self, hashes: list[tuple[int, np.ndarray]]) -> Iterator[Problem]:
        if not hashes:
            return
        ordered = np.sort(np.concatenate([values for _, values in hashes]))
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not len(repeated):
            return
        rows = [(split, h) for split, values in hashes for h in values[np.isin(values, repeated)].tolist()]
        splits: dict[int, list[int]] = {}
        for split, value in rows:
            splits.setdefault(value, []).append(split)
        within = sum(len(found) != len(set(found)) for found in splits.values())
        across = [sorted({self.plan.splits[i].name for i in f}) for f in splits.values() if len(set(f)) > 1]
        if within:
            yield Problem("duplicate", self.kind, f"{within:,} texts occur more than once in one split")
        if across:
            names = " and ".join(across[0])
            yield Problem("overlap", self.kind, f"{len(across):,} texts occur in two splits, e.g. {names}")

    def _statistics(self, split: Split, counts: statistics.Joint, sizes: dict[int, int]) -> Iterator[Problem]:
        order = statistics.order(self.manifest["answers"], counts)
        found = statistics.summarize(counts, sizes, order).to_json()
        stated = self.manifest["splits"][split.name]
        wrong = [name for name in found if found[name] != stated.get(name)]
        if wrong:
            yield Problem("statistics", split.name, f"not as stated in dataset.json: {', '.join(wrong)}")


def _where(table: pl.DataFrame, wrong: pl.Series) -> str:
    """The ids of wrong rows in words; empty if there are none."""
    ids = table["id"].filter(wrong.fill_null(True))
    return _listed([f"id {i}" for i in ids.head(_SHOWN)], len(ids)) if len(ids) else ""


def _listed(parts: list[str], count: int | None = None) -> str:
    count = len(parts) if count is None else count
    more = f" and {count - _SHOWN:,} more" if count > _SHOWN else ""
    return "; ".join(parts[:_SHOWN]) + more
