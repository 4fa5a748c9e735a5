"""Samples per second and core of ``veneer generate``, and its memory, against plain Python with pyarrow.

Times are CPU seconds of one process with one thread, from the first draw to the last byte of Parquet,
with distinct texts, checksums and card. The plain generators do less: no card, no checksums, and for
the grammar no correlation either.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from benchmarks.pcfg_sampler import NltkSampler
from veneer.pcfg.grammars import jain2024

COUNTER_SAMPLES, PCFG_SAMPLES, MANY = 1_000_000, 200_000, 10_000_000
PLAIN_COUNTER, PLAIN_PCFG = 5000, 300
LETTERS, LENGTH, WINDOW, COUNT_LAST = "abcdefghi", 45, 250, 40

_CHILD = """
import json, resource, sys, time
import torch
torch.set_num_threads(1)
from pathlib import Path
from veneer.suites.dataset import generate
from veneer.suites.plan import Plan, Split
from veneer.suites.tasks import counter, make, pcfg, shard_rows
if __name__ == "__main__":
    name, samples, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    task = counter() if name == "counter" else pcfg("C" if name == "pcfg-c" else "I")
    generate(Plan("warm", task, (Split("test", 1000),)), make, folder / "warm")
    plan = Plan(name, task, (Split("train", samples),), shard_rows=shard_rows(task))
    cpu, wall = time.process_time(), time.perf_counter()
    generate(plan, make, folder / name)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak}))
"""


def rows() -> list[dict[str, Any]]:
    """One row for the Counter, two for families of the grammar, one for ten million samples."""
    plain_counter = _plain("counter", PLAIN_COUNTER)
    plain_pcfg = _plain("pcfg", PLAIN_PCFG)
    return [
        _row("counter", COUNTER_SAMPLES, f"Counter, {LENGTH} letters", 500_000, plain_counter),
        _row("pcfg-c", PCFG_SAMPLES, f"grammar, count, {WINDOW} tokens", 50_000, plain_pcfg),
        _row("pcfg-i", PCFG_SAMPLES, f"grammar, index, {WINDOW} tokens", 50_000, plain_pcfg),
        _row("counter", MANY, f"Counter, {LENGTH} letters, ten million", 500_000, plain_counter),
    ]


def _row(name: str, samples: int, title: str, target: int, plain: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _CHILD, name, str(samples), folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    return {
        "benchmark": f"dataset: {title}",
        "samples": samples,
        "samples per second and core": samples / measured["cpu"],
        "target": target,
        "samples per second of wall time": samples / measured["wall"],
        "peak memory, MB": measured["peak"],
        "plain Python with pyarrow, samples per second": plain,
        "ratio": samples / measured["cpu"] / plain,
    }


def _plain(name: str, samples: int) -> float:
    """Samples per second of what one writes without libraries but pyarrow."""
    began = time.process_time()
    table = plain_counter(samples) if name == "counter" else plain_pcfg(samples)
    with tempfile.TemporaryDirectory() as folder:
        parquet.write_table(pyarrow.table(table), Path(folder) / "data.parquet", compression="zstd")
    return samples / (time.process_time() - began)


def plain_counter(samples: int) -> dict[str, list[Any]]:
    """Half of the samples correlated, by trying until one fits."""
    choose, seen, table = random.Random(0), set(), _table()
    for i in range(samples):
        while True:
            text = "".join(choose.choices(LETTERS, k=LENGTH))
            pt, ft = text.count("a"), text.count("b")
            fits = ft - pt == 1 if i % 2 else ft - pt not in (0, 1)
            if fits and text not in seen:
                break
        seen.add(text)
        _add(table, i, text, [0, *(LETTERS.index(x) + 1 for x in text)], pt, ft)
    return table


def plain_pcfg(samples: int) -> dict[str, list[Any]]:
    """Windows of the grammar's strings as they are, without a correlation."""
    sampler, choose, table = NltkSampler(jain2024(), 0), random.Random(0), _table()
    for i in range(samples):
        tokens: list[str] = []
        while len(tokens) < WINDOW:
            tokens, _ = sampler.string()
        begin = choose.randint(0, len(tokens) - WINDOW)
        text = "".join(tokens[begin : begin + WINDOW])
        last = text[-COUNT_LAST:]
        _add(table, i, text, ["abc".index(x) for x in text], last.count("a"), last.count("b"))
    return table


def _table() -> dict[str, list[Any]]:
    names = ("id", "text", "tokens", "operand", "label", "result_pt", "result_ft", "correlated")
    return {name: [] for name in names}


def _add(table: dict[str, list[Any]], number: int, text: str, tokens: list[int], pt: int, ft: int) -> None:
    for name, value in zip(table, (number, text, tokens, "b", ft, pt, ft, ft - pt == 1), strict=True):
        table[name].append(value)
