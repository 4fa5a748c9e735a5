"""From the options of ``veneer generate`` to a plan: every option that cannot be used is refused here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class DatasetOptions:
    """What the dataset is to hold, and where it goes."""

    out: Path
    """New or empty folder."""
    samples: int = 10_000
    """Samples of all splits together."""
    split: str = "train=0.8,validation=0.1,test=0.1"
    """Splits with their shares (numbers with a point that sum to 1) or sizes (that sum to samples)."""
    c: str = ""
    """Share of samples with the spurious correlation, or natural; for all splits, or as train=0.5,test=0.
    Default: 0.5 where samples are built to order, natural elsewhere (pcfg-cc, -ic, -t and programs)."""
    operand: str = "ft"
    """Whose answer is asked: pt, ft, both (each for half of the samples), or an operand by its name."""
    pairs: str = ""
    """Several pairs of operands O_PT:O_FT in equal shares, e.g. a:b,a:c, instead of a single one."""
    held_out_lengths: str = ""
    """Lengths of text that only the held-out split has, e.g. 40-45 or 10,12."""
    held_out_labels: str = ""
    """Labels that only the held-out split has, e.g. 7-9 or h,k."""
    held_out_pairs: str = ""
    """Pairs of operands that only the held-out split asks, e.g. c:d."""
    held_out_split: str = ""
    """The split that gets what is held out (default: the last)."""
    seed: int = 0
    """Chooses the texts."""
    format: str = "parquet"
    """parquet, jsonl, or both as parquet,jsonl."""
    jobs: int = 1
    """Processes; the files are the same for any number."""
    shard_rows: int | None = None
    """Most samples in a file (default: so many that a file takes some 50 MB of memory to make)."""
    license: str = "cc0-1.0"
    """For the dataset card."""


@dataclass(frozen=True)
class CounterOptions:
    """Counter: how often a letter occurs."""

    letters: str = "abcdefghi"
    """The alphabet."""
    length: int = 45
    """Longest text."""
    min_length: int | None = None
    """Shortest text (default: all texts have the same length)."""
    operand_pt: str = "a"
    """O_PT."""
    operand_ft: str = "b"
    """O_FT."""
    q: int = 1
    """The spurious correlation is r(x, O_FT) - r(x, O_PT) = q."""


@dataclass(frozen=True)
class MaxIdentifierOptions:
    """Max-identifier: the letter of a rank in alphabetical order."""

    letters: str = "abcdefghijklmnopqrstuvwxyz"
    """The alphabet, in order."""
    length: int = 10
    """Letters of a text; none occurs twice."""
    operand_pt: str = "5"
    """O_PT, a rank."""
    operand_ft: str = "7"
    """O_FT, a rank."""
    q: int = 2
    """The spurious correlation: O_FT's letter comes q places after O_PT's."""


@dataclass(frozen=True)
class PcfgOptions:
    """A question about the strings of a grammar."""

    grammar: str = "jain2024"
    """jain2024, deep, ambiguous, or a file in NLTK's notation."""
    max_length: int | None = None
    """Longest string of the grammar, in terminals; recursive grammars need it. None: no limit."""
    window: int = 250
    """Tokens of text."""
    number: int | None = None
    """O' of pcfg-i, -ic (default 6) and -t (default 40): which occurrence, or how far from the end."""
    count_last: int = 40
    """O' of pcfg-c and -cc: how many of the last tokens are counted. Of pcfg-i: how many may be edited."""
    operand_pt: str = "a"
    """O_PT."""
    operand_ft: str = "b"
    """O_FT."""
    q: int = 1
    """The spurious correlation is r(x, O_FT) - r(x, O_PT) = q."""


@dataclass(frozen=True)
class ProgramOptions:
    """A RASP program: uniform texts, labelled by RASP's own interpreter."""

    vocabulary: tuple[str, ...]
    """Tokens of the texts: a text, a number such as 1 or -0.5, or a text in quotes of its own, as "'1'"."""
    max_length: int
    """Longest text, in tokens."""
    min_length: int = 1
    """Shortest text; lengths are uniform between the two."""
    answer_position: str = "last"
    """Where the answer is read: last, everywhere, or a position (the token in front counted)."""
    program_ft: str | None = None
    """A second program FILE.py:FUNCTION for O_FT."""
    q: int = 1
    """With a second program: the spurious correlation is r(x, O_FT) - r(x, O_PT) = q."""
    causal: bool = False
    """Let selectors see the past only."""
    bos: str = "BOS"
    """Name of the token in front of every text."""
    pad: str = "#"
    """Name of the token behind short texts."""


def task_options_of(name: str) -> type:
    """The options of a task.

    Raises:
        InputError: an unknown task; the nearest name is offered.
    """
    if name.startswith("pcfg-"):
        from veneer.suites.tasks import PCFG

        known = {**dict.fromkeys(PCFG, PcfgOptions)}
    else:
        known = {"counter": CounterOptions, "max-identifier": MaxIdentifierOptions}
    if name in known:
        return known[name]
    if ".py" in name or ":" in name:
        return ProgramOptions
    import difflib

    from veneer.suites.tasks import TASKS

    near = difflib.get_close_matches(name, [*TASKS, "suite"], 1)
    valid = f"{', '.join(TASKS)}, suite, or FILE.py:FUNCTION"
    raise InputError("task", name, valid, f"did you mean {near[0]}?" if near else "")


def plan_of(name: str, options: DatasetOptions, task_options: Any, command: str) -> tuple[Any, Any]:
    """The plan and the maker of its sources.

    Raises:
        InputError: an option that cannot be used.
    """
    from veneer.suites import tasks as datasets
    from veneer.suites.plan import Plan

    if options.samples < 1:
        raise InputError("samples", options.samples, "1 or more")
    pairs = parse_pairs("pairs", options.pairs)
    task = _task(name, task_options, pairs)
    if held := parse_pairs("held_out_pairs", options.held_out_pairs):
        if "operand_pt" not in vars(task_options) or name == "pcfg-t":
            raise InputError("held_out_pairs", options.held_out_pairs, "nothing for a task without operands")
        if both := [pair for pair in held if list(pair) in task["pairs"]]:
            raise InputError(
                "held_out_pairs", f"{both[0][0]}:{both[0][1]}", "pairs that are not among the others"
            )
        task["held_out_pairs"] = [list(pair) for pair in held]
    by, values = _held_out(options, task)
    natural = task["q"] is None or name not in datasets.EDITED
    splits = parse_splits(options, natural, bool(by or held))
    plan = Plan(
        name=task["pairs"][0][0] if task["task"] == "rasp" else name,
        task=task,
        splits=splits,
        operand=_operand(options.operand, task),
        seed=options.seed,
        held_out_by=by,
        held_out=values,
        shard_rows=options.shard_rows or datasets.shard_rows(task),
        formats=formats_of(options.format),
        command=command,
        license=options.license,
    )
    return plan, datasets.make


def _task(name: str, options: Any, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    from veneer.suites import tasks as datasets

    fields = dict(vars(options))
    if isinstance(options, ProgramOptions):
        if pairs:
            raise InputError("pairs", pairs, "nothing for programs; name a second one with --program-ft")
        from veneer.compiled.tokens import read_vocabulary

        values = read_vocabulary(fields.pop("vocabulary"), options.max_length)
        return datasets.rasp(name, values, answer=fields.pop("answer_position"), **fields)
    one = [(fields.pop("operand_pt"), fields.pop("operand_ft"))]
    fields["pairs"] = pairs or one
    if isinstance(options, CounterOptions):
        return datasets.counter(**fields)
    if isinstance(options, MaxIdentifierOptions):
        return datasets.max_identifier(**fields)
    return datasets.pcfg(datasets.PCFG[name], fields.pop("grammar"), **fields)


def _operand(word: str, task: dict[str, Any]) -> Any:
    if task["pairs"][0][0] == task["pairs"][0][1]:
        return "pt"  # there is only one
    if word in ("pt", "ft", "both"):
        return word
    pairs = task["pairs"] + task.get("held_out_pairs", [])
    for index, which in enumerate(("pt", "ft")):
        if {pair[index] for pair in pairs} == {word}:
            return which
    raise InputError("operand", word, f"pt, ft, both, {' or '.join(task['pairs'][0])}")


def _held_out(options: DatasetOptions, task: dict[str, Any]) -> tuple[Any, tuple[int | str, ...]]:
    given = {
        name: getattr(options, f"held_out_{name}")
        for name in ("lengths", "labels", "pairs")
        if getattr(options, f"held_out_{name}")
    }
    if len(given) > 1:
        raise InputError("held_out", ", ".join(given), "one of lengths, labels and pairs")
    if options.held_out_split and not given:
        raise InputError("held_out_split", options.held_out_split, "nothing, unless something is held out")
    if "lengths" in given:
        lengths = parse_values("held_out_lengths", given["lengths"])
        shortest = task.get("min_length") or task.get("window") or task["length"]
        longest = task.get("window") or task.get("max_length") or task["length"]
        if not all(isinstance(n, int) and shortest <= n <= longest for n in lengths):
            raise InputError("held_out_lengths", given["lengths"], f"lengths from {shortest} to {longest}")
        if set(lengths) >= set(range(shortest, longest + 1)):
            raise InputError("held_out_lengths", given["lengths"], "some, but not all, of the lengths")
        return "length", lengths
    if "labels" in given:
        return "label", parse_values("held_out_labels", given["labels"], words=task["task"] == "rasp")
    return None, ()


def parse_values(field: str, text: str, words: bool = False) -> tuple[int | str, ...]:
    """Values separated by commas, with ranges of whole numbers.

    Raises:
        InputError: an empty value or a range that ends before it begins.
    """
    found: list[int | str] = []
    for part in text.split(","):
        span = re.fullmatch(r"(\d+)-(\d+)", part)
        if span and int(span[1]) <= int(span[2]):
            values = range(int(span[1]), int(span[2]) + 1)
            found += map(str, values) if words else values
        elif span or not part.strip():
            raise InputError(field, text, "values and ranges such as 7,10-12")
        else:
            found.append(int(part) if part.isdecimal() and not words else part)
    return tuple(dict.fromkeys(found))


def parse_pairs(field: str, text: str) -> list[tuple[str, str]]:
    """Pairs such as ``a:b,a:c``.

    Raises:
        InputError: a pair of another form, or one given twice.
    """
    pairs = [tuple(part.split(":")) for part in text.split(",")] if text else []
    if any(len(pair) != 2 or not all(pair) for pair in pairs) or len(set(pairs)) != len(pairs):
        raise InputError(field, text, "different pairs O_PT:O_FT such as a:b,a:c")
    return [(pair[0], pair[1]) for pair in pairs]


def formats_of(text: str) -> Any:
    """Formats of the files, in their own order.

    Raises:
        InputError: an unknown one, or one named twice.
    """
    known = ("parquet", "jsonl")
    given = text.split(",")
    if not set(given) <= set(known) or len(set(given)) != len(given):
        raise InputError("format", text, "parquet, jsonl, or parquet,jsonl")
    return tuple(name for name in known if name in given)


def parse_splits(options: DatasetOptions, natural: bool, something_held_out: bool) -> tuple[Any, ...]:
    """The splits with their sizes and shares of correlated samples.

    Raises:
        InputError: sizes that do not sum to ``samples``, shares that do not sum to 1, or an unknown split.
    """
    from veneer.suites.plan import Split

    sizes = _sizes(options.split, options.samples)
    last = options.held_out_split or list(sizes)[-1]
    if last not in sizes:
        raise InputError("held_out_split", last, f"one of {', '.join(sizes)}")
    cs = _cs(options.c, list(sizes), None if natural else 0.5)
    return tuple(Split(n, size, cs[n], something_held_out and n == last) for n, size in sizes.items())


def _sizes(text: str, samples: int) -> dict[str, int]:
    valid = "NAME=SHARE,... with shares that sum to 1, or NAME=SIZE,... with sizes that sum to --samples"
    entries = [part.partition("=") for part in text.split(",")]
    names = [name for name, _, _ in entries]
    if len(set(names)) != len(names):
        raise InputError("split", text, valid, "a split is named twice")
    try:
        numbers = [float(value) for _, _, value in entries]
    except ValueError:
        raise InputError("split", text, valid) from None
    if not all(0 < number < float("inf") for number in numbers):
        raise InputError("split", text, valid, "every split needs at least one sample")
    if all(value.isdecimal() for _, _, value in entries):
        if sum(numbers) != samples:
            raise InputError(
                "split", text, f"sizes that sum to --samples {samples:,}", f"they sum to {sum(numbers):,.0f}"
            )
        return dict(zip(names, map(int, numbers), strict=True))
    if abs(sum(numbers) - 1) > 1e-9:
        raise InputError("split", text, valid, f"the shares sum to {sum(numbers):g}")
    edges = [round(samples * sum(numbers[:i])) for i in range(len(numbers) + 1)]
    found = {name: edges[i + 1] - edges[i] for i, name in enumerate(names)}
    if empty := [name for name, size in found.items() if size == 0]:
        raise InputError("samples", samples, "more samples", f"none is left for {empty[0]}")
    return found


def _cs(text: str, names: list[str], default: float | None) -> dict[str, float | None]:
    valid = "a probability in [0, 1], natural, or SPLIT=PROBABILITY,... for every split"
    if not text:
        return dict.fromkeys(names, default)

    def value(word: str) -> float | None:
        try:
            found = None if word == "natural" else float(word)
        except ValueError:
            raise InputError("c", text, valid) from None
        if found is not None and not 0 <= found <= 1:
            raise InputError("c", text, valid)
        return found

    if "=" not in text:
        return dict.fromkeys(names, value(text))
    parts = (part.partition("=") for part in text.split(","))
    entries = {name: word for name, _, word in parts}
    if set(entries) != set(names):
        raise InputError("c", text, valid, f"the splits are {', '.join(names)}")
    return {name: value(entries[name]) for name in names}
