"""What a dataset is to hold: a plain value from which every byte of it follows."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from veneer.suites.sources import CORRELATED, NATURAL, UNCORRELATED, Condition, Make, Source
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import KINDS

FORMAT = 1
"""Version of the folder's layout; it stands in ``dataset.json`` and in every Parquet file."""

Asked = Literal["pt", "ft", "both"]
FileFormat = Literal["parquet", "jsonl"]
_NOT_DRAWN = ("about", "pairs", "held_out_pairs", "q", "local")
_SPLIT_NAME = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        name: letters, digits and underscores.
        samples: how many.
        c: share of the samples that carry the spurious correlation, kept to the sample; the others
            are uncorrelated. None: natural text, which carries it by chance.
        held_out: whether it holds what is held out, and nothing else.
    """

    name: str
    samples: int
    c: float | None = 0.5
    held_out: bool = False

    @property
    def correlated(self) -> int | None:
        """How many samples carry the correlation; None for natural text."""
        return None if self.c is None else round(self.c * self.samples)


@dataclass(frozen=True)
class Shard:
    """Some consecutive rows of a split.

    Attributes:
        split: index of the split.
        number: index of the shard within its split.
        count: shards of the split.
        begin: first row, within the split.
        end: behind its last row.
    """

    split: int
    number: int
    count: int
    begin: int
    end: int


@dataclass(frozen=True)
class Plan:
    """A dataset before it is made.

    Attributes:
        name: what to call it.
        task: describes the task in JSON; ``pairs`` and ``held_out_pairs`` in it are pairs of operands,
            and ``local`` is what the machine that makes the dataset needs to know and nobody else.
        splits: what to make.
        operand: whose answer is asked: O_PT's, O_FT's, or each of them for half of the samples.
        seed: chooses the texts.
        held_out_by: "length" or "label", if such values are held out for the splits so marked.
        held_out: those values.
        shard_rows: most samples in a file.
        formats: of the files.
        command: how to make it again, for the card.
        license: an SPDX identifier, for the card.

    Raises:
        InputError: no or repeated splits, names or shares that cannot be used.
    """

    name: str
    task: dict[str, Any]
    splits: tuple[Split, ...]
    operand: Asked = "ft"
    seed: int = 0
    held_out_by: Literal["length", "label"] | None = None
    held_out: tuple[int | str, ...] = ()
    shard_rows: int = 1 << 17
    formats: tuple[FileFormat, ...] = ("parquet",)
    command: str = ""
    license: str = "cc0-1.0"

    def __post_init__(self) -> None:
        names = [split.name for split in self.splits]
        if not names or len(set(names)) != len(names):
            raise InputError("split", names, "one or more splits with different names")
        for split in self.splits:
            if not _SPLIT_NAME.fullmatch(split.name):
                raise InputError("split", split.name, "a name of letters, digits and underscores")
            if split.samples < 1:
                raise InputError("split", f"{split.name}={split.samples}", "1 or more samples in every split")
            if split.c is not None and not 0 <= split.c <= 1:
                raise InputError("c", split.c, "a probability in [0, 1], or natural")
        if self.operand not in get_args(Asked):
            raise InputError("operand", self.operand, f"one of {', '.join(get_args(Asked))}")
        if not self.formats or not set(self.formats) <= set(get_args(FileFormat)):
            raise InputError("format", self.formats, f"one or more of {', '.join(get_args(FileFormat))}")
        if not 1 <= self.shard_rows <= 1 << 20:
            raise InputError("shard_rows", self.shard_rows, f"1 to {1 << 20}")
        if self.held_out_by == "label" and self.operand == "both":
            raise InputError("operand", self.operand, "pt or ft where labels are held out")
        kinds = {split.held_out for split in self.splits}
        if (self.held_out_by or self.task.get("held_out_pairs")) and kinds != {True, False}:
            raise InputError("held_out_split", names, "some of the splits, not none and not all")

    @property
    def samples(self) -> int:
        """Samples of all splits."""
        return sum(split.samples for split in self.splits)

    def shards(self) -> list[Shard]:
        """All shards, in the order of the splits."""
        found = []
        for index, split in enumerate(self.splits):
            count = -(-split.samples // self.shard_rows)
            edges = [split.samples * i // count for i in range(count + 1)]
            found += [Shard(index, i, count, edges[i], edges[i + 1]) for i in range(count)]
        return found

    def first_id(self, split: int) -> int:
        """``id`` of a split's first sample: ids run through the splits."""
        return sum(other.samples for other in self.splits[:split])

    def file(self, shard: Shard, kind: FileFormat) -> str:
        """Path of a shard's file within the dataset."""
        return f"data/{self.splits[shard.split].name}-{shard.number:05d}-of-{shard.count:05d}.{kind}"

    def sources(self, make: Make, split: Split) -> list[Source]:
        """Where a split's texts come from."""
        held = self.task.get("held_out_pairs") or []
        task = {**self.task, "pairs": held} if split.held_out and held else self.task
        return list(make(task, self.condition(split)))

    def condition(self, split: Split) -> Condition:
        """Which texts a split may hold."""
        asked = 0 if self.operand == "pt" else 1
        return Condition(self.held_out_by, frozenset(self.held_out), split.held_out, asked)

    @property
    def stream(self) -> str:
        """Names the distribution of texts, for the random numbers: operands and q do not enter it."""
        drawn = {name: value for name, value in self.task.items() if name not in _NOT_DRAWN}
        return json.dumps(drawn, sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        """The plan in JSON's types."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> "Plan":
        """A plan from ``to_json``, read back from JSON."""
        splits = tuple(Split(**split) for split in fields["splits"])
        listed = {name: tuple(fields[name]) for name in ("held_out", "formats")}
        return Plan(**{**fields, "splits": splits, **listed})


def check_capacity(plan: Plan, make: Make) -> None:
    """Refuse plans that ask for more different texts than there are, where their number is known.

    Raises:
        InputError: it says how many there are, or for which q there are any.
    """
    for held_out in (False, True):
        splits = [split for split in plan.splits if split.held_out == held_out]
        if not splits:
            continue
        sources = plan.sources(make, splits[0])
        _check_labels(plan, sources)
        wanted = {kind: 0 for kind in range(len(KINDS))}
        for split in splits:
            if split.correlated is None:
                wanted[NATURAL] += split.samples
            else:
                wanted[CORRELATED] += split.correlated
                wanted[UNCORRELATED] += split.samples - split.correlated
        everything = sum(wanted.values())
        for kind, number in (*wanted.items(), (NATURAL, everything)):
            _check_kind(
                kind, number, sources, " outside what is held out" if _splits_apart(plan, held_out) else ""
            )


def _check_labels(plan: Plan, sources: Sequence[Source]) -> None:
    """Refuse to hold out answers that a task never gives; what a program answers is seen when it is asked."""
    if plan.held_out_by != "label" or not all(source.numbered for source in sources):
        return
    answers = list(dict.fromkeys(str(answer) for source in sources for answer in source.answers))
    if strange := [label for label in plan.held_out if str(label) not in answers]:
        valid = f"answers of the task: {', '.join(answers[:20])}{' ...' if len(answers) > 20 else ''}"
        raise InputError("held_out_labels", ",".join(map(str, strange)), valid)


def _splits_apart(plan: Plan, held_out: bool) -> bool:
    return plan.held_out_by is not None and not held_out


def _check_kind(kind: int, number: int, sources: Sequence[Source], where: str) -> None:
    """Every source makes its share of the texts; no text is made twice."""
    name = "" if kind == NATURAL else f"{KINDS[kind]} "
    for i, source in enumerate(sources):
        share = number * (i + 1) // len(sources) - number * i // len(sources)
        if not share:
            continue
        if kind != NATURAL and source.q is None:
            raise InputError("c", KINDS[kind], "natural for a task without a second operand")
        known = source.capacity(kind)
        if known is not None and share > known:
            pair = f" for operands {' and '.join(source.operands)}" if len(sources) > 1 else ""
            problem = f"{share:,} different {name}texts are asked for{pair}{where}, and there are {known:,}"
            raise InputError("samples", number, f"at most {known:,} {name}samples", problem)
