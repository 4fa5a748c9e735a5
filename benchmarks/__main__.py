"""``make bench``: every benchmark, as a table of ratios; results also go to a JSON file.

python -m benchmarks [NAME ...] [--device cuda] [--json FILE] [--record]

``--record`` adds the ratios to ``benchmarks/history.json``, so that a slowdown shows.
"""

import argparse
import importlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import processor_name
from veneer.experiments.environment import environment
from veneer.finetune.processor import cores

NAMES = (
    *("training", "pretraining", "preset", "compile", "pcfg_sampler", "datasets", "probing", "sweeps"),
    "insides",
)
HISTORY = Path(__file__).parent / "history.json"
BY_DEVICE = ("training", "pretraining")


def main() -> None:
    """Run the benchmarks named, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Veneer against plain alternatives."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(NAMES)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--record", action="store_true", help=f"add the ratios to {HISTORY.name}")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        sys.exit(f"benchmark = {', '.join(sorted(unknown))!r}; valid: {', '.join(NAMES)}")
    device = torch.device(options.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    print(f"torch {torch.__version__}, {machine}, {cores()} cores")
    found: list[dict[str, Any]] = []
    for name in options.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        found += _show(module.rows(device) if name in BY_DEVICE else module.rows())
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.record:
        record(found, machine, device)


def record(rows: list[dict[str, Any]], machine: str, device: torch.device) -> None:
    """Add what was measured to the history: when, on what, of which commit, and the ratios."""
    made_with = environment(device)
    entry = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        "cores": made_with["cores"],
        "torch": made_with["versions"]["torch"],
        "commit": made_with["commit"],
        "conditions": f"load {os.getloadavg()[0]:.1f} at the end",
        "ratios": {row["benchmark"]: round(row["ratio"], 3) for row in rows if "ratio" in row},
    }
    history = json.loads(HISTORY.read_text()) if HISTORY.exists() else []
    before = {name: r for old in history if old["machine"] == machine for name, r in old["ratios"].items()}
    for name, ratio in entry["ratios"].items():
        if name in before:
            print(f"{name}: ratio {ratio:g}, last time on this machine {before[name]:g}")
    HISTORY.write_text(json.dumps([*history, entry], indent=1) + "\n")


def _show(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        print(f"\n{row.get('benchmark', '')}")
        for key, value in row.items():
            if key != "benchmark":
                print(f"  {key:48} {value:,.4g}" if isinstance(value, float) else f"  {key:48} {value}")
    return rows


if __name__ == "__main__":
    main()
