"""``make device-check``: what a GPU makes of Veneer, in at most ten minutes, as one JSON file.

Each part (``benchmarks.device_fleets``, ``benchmarks.device_models``) runs in a process of its own with a
time limit, so that one that hangs, runs out of memory or breaks the device takes no other with it. A part
tells each number as soon as it has it, and the file is written again after each: what was found before the
end is never lost.

``--dry`` runs the same code in small on the CPU within two minutes. It shows that the script works, and says
nothing about GPUs.

python -m benchmarks.device [--dry] [--json FILE] [--seconds N] [--only PART ...]
"""

import argparse
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 600
DRY_SECONDS = 120
MARK = "device-check "  # in front of a line that holds results


@dataclass(frozen=True)
class Part:
    """One thing that is looked at.

    Attributes:
        name: of its function in ``benchmarks.device_fleets``, ``benchmarks.device_models``.
        seconds: most that it may take.
        about: what it looks at.
    """

    name: str
    seconds: float
    about: str


PARTS = (
    Part("machine", 40, "the card, and its matmul peak in float32, TF32 and bfloat16"),
    Part("gpu_tests", 100, "the tests that need a GPU"),
    Part("fleets", 100, "forward, backward and update of fleets of 1 to 4,096, and the fleet at the knee"),
    Part("plain", 25, "the plain loop, one model at a time"),
    Part("vmapped", 50, "the same fleets by torch.func.vmap"),
    Part("processes", 55, "plain loops in as many processes as help"),
    Part("graph", 40, "the whole step as a CUDA graph: draws, forward, backward, clip, update, freezing"),
    Part("precision", 60, "GPTs in float32, TF32 and bfloat16, and compiled"),
    Part("pretraining", 50, "pretraining on the grammar at paper size, updates per second"),
    Part("grid", 80, "Table 3 at paper size: 28 settings of 5 seeds, as far as time allows"),
)


def main() -> None:
    """Run the parts one after another, and write what they tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description="Check a GPU.")
    parser.add_argument("--dry", action="store_true", help="in small, on the CPU: says nothing about GPUs")
    parser.add_argument("--json", type=Path, default=Path("device-check.json"), help="where results go")
    parser.add_argument("--seconds", type=float, help=f"in all (default {SECONDS}; dry {DRY_SECONDS})")
    parser.add_argument("--only", nargs="*", metavar="PART", default=[], help="these parts alone")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # what a process of its own is started with
    options = parser.parse_args()
    names = [part.name for part in PARTS]
    if unknown := set(options.only) - set(names):
        sys.exit(f"part = {', '.join(sorted(unknown))!r}; valid: {', '.join(names)}")
    if options.part:
        _work(options.part, options.dry, options.seconds)
        return
    if not options.dry and not _has_gpu():
        print("device = 'cuda'; valid: a machine whose PyTorch sees a GPU, or --dry", file=sys.stderr)
        sys.exit(2)
    chosen = [part for part in PARTS if not options.only or part.name in options.only]
    found = check(
        chosen, options.dry, options.seconds or (DRY_SECONDS if options.dry else SECONDS), options.json
    )
    print(f"{options.json}: {sum('error' in part for part in found['parts'].values())} parts with an error")


def check(parts: list[Part], dry: bool, seconds: float, file: Path) -> dict[str, Any]:
    """Run parts within so many seconds in all, and keep a file of what is known so far.

    Args:
        parts: which, in order.
        dry: in small, on the CPU.
        seconds: for all of them; a part that no time is left for is not begun.
        file: JSON, written again after each number.
    """
    end = time.monotonic() + seconds
    about = "a dry run on the CPU: it says nothing about GPUs" if dry else "measured on the device named"
    found: dict[str, Any] = {"about": about, "dry": dry, "parts": {}}
    for part in parts:
        own: dict[str, Any] = {"about": part.about}
        found["parts"][part.name] = own
        share = seconds / SECONDS if dry else 1.0
        limit = min(part.seconds * max(share, 0.25), end - time.monotonic())
        if limit < 5:
            own["error"] = "no time was left"
        else:
            print(f"{part.name}: {part.about}", flush=True)
            _run(part, dry, limit, own, lambda: _write(file, found))
        _write(file, found)
    return found


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _write(file: Path, found: dict[str, Any]) -> None:
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(temporary, file)


def _command(part: Part, dry: bool, limit: float) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.device", "--part", part.name, "--seconds", f"{limit:.0f}"]
    return command + (["--dry"] if dry else [])


def _run(part: Part, dry: bool, limit: float, own: dict[str, Any], keep: Any) -> None:
    """A part in a process of its own; its numbers go to ``own`` as it tells them."""
    began = time.monotonic()
    process = subprocess.Popen(
        _command(part, dry, limit),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that what it starts ends with it
    )
    assert process.stdout is not None
    said, rest = list[str](), b""
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = began + limit - time.monotonic()
            if left <= 0:
                own["error"] = f"stopped after {limit:.0f} s; what it told before stands here"
                break
            if not waiting.select(min(left, 1.0)):
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in (line.decode(errors="replace") for line in lines):
                if line.startswith(MARK):
                    own.update(json.loads(line.removeprefix(MARK)))
                    keep()
                else:
                    said.append(line)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    own["seconds"] = round(time.monotonic() - began, 1)
    if process.returncode > 0 and "error" not in own:
        own["error"] = "\n".join(said[-15:]) or f"it ended with {process.returncode}"


def _work(name: str, dry: bool, seconds: float) -> None:
    """What a part's own process does."""
    from benchmarks import device_fleets, device_models
    from benchmarks.device_common import Part as AtWork

    def tell(found: dict[str, Any]) -> None:
        print(MARK + json.dumps(found), flush=True)

    work = getattr(device_fleets, name, None) or getattr(device_models, name)
    work(AtWork(dry, max(seconds - 8, seconds / 2), tell))


if __name__ == "__main__":
    main()
