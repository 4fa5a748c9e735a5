"""How much conversion adds to Tracr's own compilation, and how fast a cached capability loads.

Each compilation runs in a process of its own, since JAX keeps what it compiled once. Run with
``python -m benchmarks.compile``.
"""

import os
import subprocess
import sys
import tempfile

REPEATS = 3

_TRACR = """
import time, torch
from veneer.compiled import compiler, programs
from tracr.compiler import compiling
start = time.perf_counter()
compiling.compile_rasp_to_model({program}, set({letters!r}), {length}, compiler_bos="BOS", compiler_pad="#")
print(time.perf_counter() - start)
"""
_OURS = """
import time, torch
from veneer.compiled import compiler, programs
start = time.perf_counter()
compiler.compile_program({program}, {letters!r}, {length})
print(time.perf_counter() - start)
"""
_IMPORT = """
import time
start = time.perf_counter()
import torch
print(time.perf_counter() - start)
"""
_CACHED = """
import time, torch
start = time.perf_counter()
from veneer.compiled import capabilities
capabilities.{call}
print(time.perf_counter() - start)
"""

_PROGRAMS = {
    "Counter, 45 letters": ("programs.counter('a')", "abcdefghi", 45, "counter()"),
    "Max-identifier, 10 letters": (
        "programs.max_identifier(5)",
        "abcdefghijklmnopqrstuvwxyz",
        10,
        "max_identifier()",
    ),
}


def rows() -> list[dict[str, str | float]]:
    """One row per program: seconds, and the ratio of our compilation to Tracr's own."""
    table = []
    with tempfile.TemporaryDirectory() as cache:
        for name, (program, letters, length, call) in _PROGRAMS.items():
            filled = {"program": program, "letters": letters, "length": length, "call": call}
            tracr, ours = (_best(text.format(**filled), cache) for text in (_TRACR, _OURS))
            first = _seconds(_CACHED.format(**filled), cache)
            table.append(
                {
                    "what": name,
                    "tracr_seconds": tracr,
                    "compile_and_convert_seconds": ours,
                    "ratio": ours / tracr,
                    "compile_and_calibrate_seconds": first,
                    "cached_load_seconds": _best(_CACHED.format(**filled), cache),
                    "import_torch_seconds": _best(_IMPORT, cache),
                }
            )
    return table


def _best(script: str, cache: str) -> float:
    return min(_seconds(script, cache) for _ in range(REPEATS))


def _seconds(script: str, cache: str) -> float:
    """What a script in a fresh process prints last."""
    environment = {**os.environ, "VENEER_CACHE": cache, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    for row in rows():
        print(", ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()))
