"""Named suites: several datasets made with one command, for the paper's tests and for shortcut learning."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from veneer.models.files import alone, check_unused, checksum, put_in_place, read_json, write_text
from veneer.suites.dataset import generate
from veneer.suites.made_with import versions
from veneer.suites.plan import FORMAT, Asked, FileFormat, Plan, Split
from veneer.suites.tasks import EDITED, PCFG, counter, make, max_identifier, pcfg, shard_rows
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Suite:
    """Several datasets made with one command.

    Attributes:
        about: what it is for.
        plans: the datasets; each one's name is its folder.
    """

    about: str
    plans: tuple[Plan, ...]


def suite_paper(samples: int | None, seed: int) -> Suite:
    """The evaluation sets of Jain et al. 2024: every task, operand and C_Te, and natural text."""
    count = samples or 2000
    tasks = {
        "counter": counter(),
        "max-identifier-q2": max_identifier(),
        "max-identifier-q4": max_identifier(q=4),
        **{name: pcfg(family) for name, family in PCFG.items()},
    }
    plans = []
    for name, task in tasks.items():
        splits = [Split("natural", count, None)]
        if task["task"] in EDITED:
            splits = [Split("c_te_0", count, 0.0), Split("c_te_1", count, 1.0), *splits]
        pt, ft = task["pairs"][0]
        asked: list[tuple[Asked, str]] = [("pt", pt), ("ft", ft)] if pt != ft else [("pt", "any")]
        for operand, named in asked:
            plans.append(
                Plan(f"{name}-{named}", task, tuple(splits), operand, seed, shard_rows=shard_rows(task))
            )
    about = (
        "The evaluation sets of Jain et al. 2024 (arXiv 2311.12786): one dataset for each task and operand "
        "asked, with the splits c_te_0 (uncorrelated), c_te_1 (correlated) and natural. The Max-identifier's "
        "difference q is 2 where the paper says 1 (one letter between the answers), and 4 where it says 3."
    )
    return Suite(about, tuple(plans))


LADDER = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


def suite_ladder(samples: int | None, seed: int) -> Suite:
    """Graded correlation strengths, with common test sets."""
    count = samples or 10_000
    rungs = [Split(f"train_c_{round(100 * c):03d}", count, c) for c in LADDER]
    tests = max(1, count // 5)
    splits = (*rungs, Split("test_c_000", tests, 0.0), Split("test_c_100", tests, 1.0))
    tasks = {
        "counter": counter(),
        "max-identifier": max_identifier(),
        "pcfg-c": pcfg("C"),
        "pcfg-i": pcfg("I"),
    }
    about = (
        "A ladder of correlation strengths for shortcut learning: training splits in which the shortcut is "
        f"right on {', '.join(f'{c:.0%}' for c in LADDER)} of the samples, and test splits in which it is "
        "never and always right. The label is the answer for O_FT."
    )
    plans = [Plan(n, t, splits, "ft", seed, shard_rows=shard_rows(t)) for n, t in tasks.items()]
    return Suite(about, tuple(plans))


SUITES: dict[str, Callable[[int | None, int], Suite]] = {
    "paper": suite_paper,
    "shortcut-ladder": suite_ladder,
}


def write_suite(
    name: str,
    suite: Suite,
    out: Path,
    command: str,
    formats: tuple[FileFormat, ...],
    jobs: int,
    progress: Callable[[int], None],
) -> None:
    """Make all datasets of a suite; ``suite.json`` comes last.

    Raises:
        InputError: a folder that is in use.
    """
    described = {"command": command, "made_with": versions(), "formats": list(formats)}
    with alone(out) as waited:
        if waited and _is_made(out, described):
            progress(sum(plan.samples for plan in suite.plans))
            return
        check_unused(out)
        _write(name, suite, out, described, formats, jobs, progress)


def _is_made(out: Path, described: dict[str, Any]) -> bool:
    """Whether a folder holds the suite of this command, whole."""
    try:
        found = read_json(out / "suite.json", dict)
    except InputError:
        return False
    return all(found.get(name) == value for name, value in described.items())


def _write(
    name: str,
    suite: Suite,
    out: Path,
    described: dict[str, Any],
    formats: tuple[FileFormat, ...],
    jobs: int,
    progress: Callable[[int], None],
) -> None:
    """Make what is missing of a suite beside its folder, then put it in place."""
    partial, command = out.with_name(f"{out.name}.partial"), described["command"]
    if partial.exists() and _described(partial) != described:
        problem = f"{partial} holds something else, or an unfinished suite of another command or version"
        raise InputError("out", str(out), "another folder, or remove the unfinished one", problem)
    partial.mkdir(parents=True, exist_ok=True)
    write_text(partial / "unfinished.json", json.dumps(described))
    for plan in suite.plans:
        if (partial / plan.name / "dataset.json").exists():
            progress(plan.samples)
            continue
        generate(replace(plan, command=command, formats=formats), make, partial / plan.name, jobs, progress)
    write_text(partial / "README.md", _readme(name, suite, command))
    names = [plan.name for plan in suite.plans]
    manifests = {f: checksum(partial / f / "dataset.json") for f in names}
    content = {"format": FORMAT, "suite": name, **described, "datasets": manifests}
    write_text(partial / "suite.json", json.dumps(content, indent=1) + "\n")
    (partial / "unfinished.json").unlink()
    if out.exists():
        out.rmdir()
    put_in_place(partial, out)


def _described(partial: Path) -> dict[str, Any] | None:
    file = partial / "unfinished.json"
    return read_json(file) if file.exists() else None


def _readme(name: str, suite: Suite, command: str) -> str:
    lines = [f"# {name}", "", suite.about, "", "```console", command, "```", ""]
    lines += ["| dataset | asked | splits | samples |", "|---|---|---|---|"]
    for plan in suite.plans:
        asked = plan.task["pairs"][0][0 if plan.operand == "pt" else 1]
        splits = ", ".join(split.name for split in plan.splits)
        lines.append(f"| [{plan.name}]({plan.name}/README.md) | {asked} | {splits} | {plan.samples:,} |")
    lines += ["", f'Each folder is a dataset: `datasets.load_dataset("DIR/{suite.plans[0].name}")`.']
    return "\n".join(lines) + "\n"


def members(folder: Path) -> list[Path]:
    """The datasets of a suite's folder, or the folder itself if it is no suite.

    Raises:
        InputError: a ``suite.json`` that cannot be read, or of another format version.
    """
    file = folder / "suite.json"
    if not file.exists():
        return [folder]
    valid = f"a folder made by veneer generate suite, in format {FORMAT}"
    try:
        content = read_json(file, {"format": object, "datasets": dict}, valid)
    except InputError as error:
        raise InputError("DIR", str(folder), valid, error.problem) from error
    if content["format"] != FORMAT:
        raise InputError("DIR", str(folder), valid, f"it is in format {content['format']}")
    return [folder / name for name in content["datasets"]]
