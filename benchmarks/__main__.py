"""``make bench``: every benchmark, as a table of ratios; results also go to a JSON file.

python -m benchmarks [NAME ...] [--device cuda] [--json FILE]
"""

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

NAMES = ("training", "pretraining", "compile", "pcfg_sampler", "datasets", "probing", "sweeps")


def main() -> None:
    """Run the benchmarks named, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Veneer against plain alternatives."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(NAMES)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        sys.exit(f"benchmark = {', '.join(sorted(unknown))!r}; valid: {', '.join(NAMES)}")
    device = torch.device(options.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    print(f"torch {torch.__version__}, {where}, {torch.get_num_threads()} threads")
    found: list[dict[str, Any]] = []
    for name in options.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        found += _show(module.rows(device) if name.endswith("training") else module.rows())
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _show(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        print(f"\n{row.get('benchmark', '')}")
        for key, value in row.items():
            if key != "benchmark":
                print(f"  {key:48} {value:,.4g}" if isinstance(value, float) else f"  {key:48} {value}")
    return rows


if __name__ == "__main__":
    main()
