"""``veneer claims``: hold finished runs against the paper's claims, and make the runs that are missing."""

import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from veneer.commands.manners import tell
from veneer.commands.options import ClaimsOptions, claims_folder, parse
from veneer.models.files import exists
from veneer.tasks.errors import InputError

WIDTH = 80
PAPERS = {
    "Jain et al. 2024": "arXiv 2311.12786v2",
    "Zhao et al. 2024": "arXiv 2410.20008v1",
    "Lin 2024": "arXiv 2406.18926v1",
}
"""The papers; numbers of the second one's claims begin with a Z, of the third one's with an L."""
COLOURS = {
    "replicated": "green",
    "not replicated": "red",
    "undecidable at this size": "yellow",
    "no run": "dim",
}


@dataclass(frozen=True)
class Judged:
    """The claims held against some runs, or against one point of a sweep.

    Attributes:
        runs: the folders.
        point: of a point of a sweep, its value of each axis.
        findings: each claim with its answer.
    """

    runs: list[str]
    point: dict[str, Any]
    findings: list[Any]


def command(words: list[str]) -> None:
    """The command.

    Args:
        words: the command line.

    Raises:
        InputError: a folder that is no run, a claim that does not exist, or a file that cannot be written.
    """
    options = _options(words)
    from veneer.claims.cddm import DecisionsView
    from veneer.claims.layers import LayersView
    from veneer.claims.list import claims as chosen_claims
    from veneer.claims.list import evaluate
    from veneer.claims.stories import StoriesView
    from veneer.claims.view import View
    from veneer.experiments.cddm.store import DecisionsRun
    from veneer.experiments.layers.store import LayersRun
    from veneer.experiments.points import axes_of
    from veneer.experiments.store import Run
    from veneer.experiments.stories.store import StoriesRun

    texts: dict[Any, Any] = {StoriesRun: StoriesView, LayersRun: LayersView, DecisionsRun: DecisionsView}

    chosen = chosen_claims(options.only)
    folder = options.run or claims_folder()
    paths = list(options.runs)
    refused = _make(folder, options, chosen) if options.run else []
    if options.run or not paths:
        paths += [file.parent for file in sorted(folder.glob("*/experiment.json"))]
        paths += [file.parent for kind in texts for file in sorted(folder.glob(f"*/{kind.FILE}"))]
    different = list({path.resolve(): path for path in paths}.values())
    told = [
        view(kind.read(path))
        for path in different
        for kind, view in texts.items()
        if exists(path / kind.FILE)
    ]
    runs = [Run.read(path) for path in different if not any(exists(path / kind.FILE) for kind in texts)]
    sweeps = [run for run in runs if axes_of(run)]
    views = [*(View(run) for run in runs if not axes_of(run)), *told]
    judged: list[Judged] = []
    if views or not sweeps:
        findings = [(claim, evaluate(claim, views, str(folder))) for claim in chosen]
        judged.append(Judged([view.path for view in views], {}, findings))
    for run in sweeps:
        judged += _by_point(run, chosen, str(folder))
    if not tell("claims", _content(judged, str(folder))):
        for own in judged:
            _show(own)
    if refused:
        print(f"veneer: could not make {', '.join(refused)} (see above)", file=sys.stderr)
        sys.exit(2)


def _options(words: list[str]) -> ClaimsOptions:
    """Options; --run without a folder takes the usual one."""
    import tyro

    @dataclass(frozen=True)
    class Words(ClaimsOptions):
        runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()

    Words.__doc__ = ClaimsOptions.__doc__
    filled: list[str] = []
    for word, following in zip(words, [*words[1:], "--"], strict=False):
        filled.append(word)
        if word == "--run" and following.startswith("--"):
            filled.append(str(claims_folder()))
    return parse(Words, filled, "veneer claims")


def _make(folder: Path, options: ClaimsOptions, chosen: Any) -> list[str]:
    """Run and analyse what the claims need; returns what was refused (why is said on stderr)."""
    from veneer.claims.needs import COMMANDS

    names = [name for name in COMMANDS if any(n.command == name for claim in chosen for n in claim.needs)]
    return [name for name in names if not _made(folder / name, COMMANDS[name], options.device)]


def _made(path: Path, command: Any, device: str) -> bool:
    """Whether an ordinary ``veneer run``, and the analyses of its run, went through."""
    from veneer.commands import analyse, run

    lines = [(run.command, ["run", *command.words, "--out", str(path), "--device", device])]
    if command.analyses:
        lines.append(
            (analyse.command, ["analyse", str(path), "--only", *command.analyses, "--device", device])
        )
    for made, words in lines:
        print(f"veneer {' '.join(words)}", flush=True, file=sys.stderr)
        try:
            made(words[1:])
        except InputError as error:
            print(f"veneer: {error}", file=sys.stderr)
            return False
    return True


def _by_point(run: Any, chosen: Any, folder: str) -> list[Judged]:
    """Each point of a sweep held against the claims by itself: points are not seeds of one another."""
    from veneer.claims.list import evaluate
    from veneer.claims.view import View
    from veneer.experiments.points import points_of

    judged = []
    with points_of(run) as points:
        for point in points:
            view = View(point.run)
            view.path = str(run.path)
            findings = [
                (claim, replace(evaluate(claim, [view], folder), more=(), minutes=None)) for claim in chosen
            ]
            judged.append(Judged([view.path], point.values, findings))
    return judged


def _content(judged: list[Judged], folder: str) -> dict[str, Any]:
    """One object for the runs, with one for each point of a sweep under ``points``."""

    def described(own: Judged) -> dict[str, Any]:
        return {"runs": own.runs, "claims": _rows(own.findings, folder)}

    content: dict[str, Any] = {"papers": PAPERS, "runs": [], "claims": []}
    content |= next((described(own) for own in judged if not own.point), {})
    points = [{"point": own.point, **described(own)} for own in judged if own.point]
    return {**content, "points": points} if points else content


def _rows(findings: list[Any], folder: str) -> list[dict[str, Any]]:
    from veneer.claims.needs import COMMANDS

    rows = []
    for claim, finding in findings:
        commands = [COMMANDS[need.command].line(f"{folder}/{need.command}") for need in claim.needs]
        stated = {name: getattr(claim, name) for name in ("number", "statement", "place", "rule")}
        rows.append({**stated, "seeds_asked": claim.seeds, "commands": commands, **asdict(finding)})
    return rows


def _show(judged: Judged) -> None:
    """The outcomes counted, then each claim: outcome and effect, statement, and what was found."""
    from veneer.commands.progress import following
    from veneer.commands.screen import Table, at_most, styled
    from veneer.experiments.points import point_name

    findings, console = judged.findings, at_most(WIDTH)
    missing = _by_command(findings)
    lacking = {number for numbers in missing.values() for number in numbers}
    counts = Counter(found.outcome for _, found in findings)
    told = [(f"{counts[name]} {name}", colour) for name, colour in COLOURS.items() if counts[name]]
    between = [part for pair in told for part in (", ", pair)][1:]
    console.print(styled(f"{len(findings)} claims: ", *between, "."))
    if judged.point:
        console.print(styled(f"{judged.runs[0]} at {point_name(judged.point)}"))
    table = Table.grid(padding=(0, 1))
    for claim, found in findings:
        if claim.number in lacking:
            continue
        answer, _, rest = found.explanation.partition(": ")
        table.add_row("", "")
        outcome = (found.outcome, COLOURS[found.outcome])
        table.add_row(styled((claim.number, "bold")), styled(outcome, _effect(claim, found)))
        table.add_row("", styled((claim.statement, "bold")))
        inequalities = answer.partition(" (")[2].removesuffix(")")
        first = f"{inequalities}: " if inequalities else ""
        table.add_row("", f"{first}{rest}"[:1].upper() + f"{first}{rest}"[1:])
    if table.row_count:
        console.print(table)
        console.print(
            "\nEffects: accuracy in points, × a ratio of updates, nats of loss, else a share; of what the "
            "claim names first, in its weakest setting, with the 95 % interval over seeds. Claims are of "
            f"{_papers(findings)}.\n"
        )
    for (lines, minutes), numbers in _by_more(findings).items():
        told = "" if minutes is None else f" in about {minutes} min"
        said = f"; this adds seeds where it is{told}, give both folders then:"
        console.print(styled((", ".join(numbers), "bold"), (" open", "yellow"), said))
        for line in lines:
            console.print(f"  {line}", soft_wrap=True)
    for line, numbers in missing.items():
        lacks = (
            (" not analysed", "; this does it:")
            if line.startswith("veneer analyse ")
            else (" no run", "; this makes one:")
        )
        console.print(styled((", ".join(numbers), "bold"), (lacks[0], "dim"), lacks[1]))
        console.print(f"  {line}", soft_wrap=True)
    if missing:
        following("veneer claims --run")


def _effect(claim: Any, found: Any) -> str:
    """The effect with its interval and seeds, and the paper's number."""
    from veneer.claims.evidence import interval, shown

    effect, told = found.effect, ""
    if effect is not None:
        bound = effect.low if effect.low is not None else effect.high
        sign = "" if effect.value is not None else "≥ " if effect.low is not None else "≤ "
        value = bound if effect.value is None else effect.value
        if value is not None:
            between = interval(effect, found.unit)
            seeds = f"{effect.seeds} seed{'' if effect.seeds == 1 else 's'}"
            told = f": {sign}{shown(value, found.unit)} ({between}; {seeds})"
    paper = "" if found.paper is None else f" {shown(found.paper, found.unit)}"
    return f"{told}. Paper:{paper} {claim.place}"


def _papers(findings: list[Any]) -> str:
    """The papers that the claims are of, in words."""
    first, second, third = PAPERS
    letters = {claim.number[0] for claim, _ in findings}
    of = {"Z": second, "L": third}
    asked = {of.get(letter, first) for letter in letters}
    named = [name for name in PAPERS if name in asked]
    return " and of ".join(f"{name} ({PAPERS[name]})" for name in named)


def _by_more(findings: list[Any]) -> dict[tuple[tuple[str, ...], int | None], list[str]]:
    """The claims that more seeds would decide, by the commands that train these and their minutes."""
    grouped: dict[tuple[tuple[str, ...], int | None], list[str]] = {}
    for claim, found in findings:
        if found.more:
            grouped.setdefault((found.more, found.minutes), []).append(claim.number)
    return grouped


def _by_command(findings: list[Any]) -> dict[str, list[str]]:
    """The claims that lack a run, by the command that makes it."""
    grouped: dict[str, list[str]] = {}
    for claim, found in findings:
        _, line, rest = found.explanation.partition(": veneer ")
        if found.outcome == "no run" and line:
            grouped.setdefault(f"veneer {rest}", []).append(claim.number)
    return grouped
