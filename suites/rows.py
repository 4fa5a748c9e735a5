"""The rows of one shard: different texts, each of the kind and with the operands its row calls for.

What each row is to be is fixed first, by shares that are exact for the whole split and an order that
is random within the shard. Then texts are drawn in rounds until every row has one that no other row
of the shard has, nor any text the caller knows. All of it is a pure function of task, seed, split
and shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from jaxtyping import Bool, Integer, UInt64

from veneer.suites.bulk import fingerprints, shuffled
from veneer.suites.plan import Plan, Shard
from veneer.suites.sources import CORRELATED, NATURAL, UNCORRELATED, Condition, Source, kinds_of
from veneer.tasks import random
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import KINDS

_REPAIR = 1 << 32  # rounds from which texts are drawn that replace known ones
_LEAST_DRAWN = 64


@dataclass
class Rows:
    """A shard's rows as arrays.

    Attributes:
        kind: what was asked for, index into KINDS.
        source: index of the pair of operands.
        asked: 0 if O_PT is asked, 1 if O_FT is.
        letters: indices into the text's alphabet; its size behind a text's end.
        sizes: letters per text.
        results: indices of the answers for O_PT and O_FT.
        fingerprint: hash of the text.
    """

    kind: Integer[np.ndarray, "row"]
    source: Integer[np.ndarray, "row"]
    asked: Integer[np.ndarray, "row"]
    letters: Integer[np.ndarray, "row position"]
    sizes: Integer[np.ndarray, "row"]
    results: Integer[np.ndarray, "row 2"]
    fingerprint: UInt64[np.ndarray, "row"]


def draw_rows(plan: Plan, shard: Shard, sources: Sequence[Source]) -> Rows:
    """The rows of a shard, without regard to other shards.

    Raises:
        InputError: so many different texts could not be found.
    """
    key = shard_key(plan, shard)
    size = shard.end - shard.begin
    rows = _empty(plan, shard, key, len(sources))
    everything = np.arange(size)
    fill(
        rows,
        everything,
        sources,
        plan.condition(plan.splits[shard.split]),
        key,
        np.empty(0, dtype=np.uint64),
        0,
    )
    return rows


def shard_key(plan: Plan, shard: Shard) -> int:
    """The root of a shard's random numbers."""
    stream = f"dataset/{plan.splits[shard.split].name}/{shard.number}"
    return random.stream_key(plan.stream, plan.seed, stream)


def replace_rows(
    rows: Rows,
    repeated: Integer[np.ndarray, "repeated"],
    plan: Plan,
    shard: Shard,
    sources: Sequence[Source],
    known: UInt64[np.ndarray, "known"],
) -> None:
    """Give the repeated rows texts that are not among the known ones (sorted), in place.

    Raises:
        InputError: so many different texts could not be found.
    """
    fill(
        rows,
        repeated,
        sources,
        plan.condition(plan.splits[shard.split]),
        shard_key(plan, shard),
        known,
        _REPAIR,
    )


def _empty(plan: Plan, shard: Shard, key: int, sources: int) -> Rows:
    """Rows without texts: shares are exact in the split, their order is random within the shard."""
    split, size = plan.splits[shard.split], shard.end - shard.begin

    def spread(use: int, parts: Sequence[tuple[int, int]]) -> np.ndarray:
        """So many rows of each value (numbers for the whole split), in random order."""
        values, edge = np.empty(size, dtype=np.uint8), 0
        for value, below in parts:
            upto = below * shard.end // split.samples - below * shard.begin // split.samples
            values[edge:upto] = value
            edge = upto
        return values[shuffled(random.step_key(key, use), size)] if len(parts) > 1 else values

    kinds = [(NATURAL, split.samples)]
    if split.correlated is not None:
        kinds = [(CORRELATED, split.correlated), (UNCORRELATED, split.samples)]
    shares = [(i, split.samples * (i + 1) // sources) for i in range(sources)]
    asked = {"pt": [(0, split.samples)], "ft": [(1, split.samples)]}
    both = [(0, split.samples // 2), (1, split.samples)]
    return Rows(
        kind=spread(0, kinds),
        source=spread(1, shares),
        asked=spread(2, asked.get(plan.operand, both)),
        letters=np.empty((size, 0), dtype=np.uint8),
        sizes=np.zeros(size, dtype=np.int32),
        results=np.zeros((size, 2), dtype=np.int32),
        fingerprint=np.zeros(size, dtype=np.uint64),
    )


def fill(
    rows: Rows,
    pending: Integer[np.ndarray, "pending"],
    sources: Sequence[Source],
    condition: Condition,
    key: int,
    known: UInt64[np.ndarray, "known"],
    first_round: int,
) -> None:
    """Draw texts in rounds until each pending row has one that is new, in place."""
    acceptance, vain = [1.0] * len(sources), 0
    ours, filled = np.empty(0, dtype=np.uint64), np.zeros(len(rows.kind), dtype=bool)
    asked_for = len(rows.kind)
    for number in count(first_round):
        if not len(pending):
            return
        for index, source in enumerate(sources):
            mine = pending[rows.source[pending] == index]
            if not len(mine):
                continue
            most = max(_LEAST_DRAWN, int(len(mine) / acceptance[index] * 1.1))
            wanted = min(len(mine) if acceptance[index] == 1 else most, source.batch)
            draw_key = random.step_key(random.step_key(key, 16 + index), number)
            placed = _round(rows, mine, source, condition, draw_key, (known, ours), wanted)
            ours = np.sort(np.concatenate([ours, rows.fingerprint[placed]]))
            acceptance[index] = max(len(placed) / wanted, 1 / source.batch)
            vain = 0 if len(placed) else vain + wanted
            filled[placed] = True
            if vain > source.patience:
                failure = getattr(source, "failure", "")
                if not source.answers:
                    valid = "a program that RASP can run on texts of its vocabulary"
                    raise InputError("program", source.operands[0], valid, f"no text has an answer{failure}")
                done = asked_for - len(pending)
                kinds = " or ".join(KINDS[kind] for kind in np.unique(rows.kind[mine]))
                problem = f"{vain:,} further texts were drawn and none was a new {kinds} one for this split"
                if condition.by and condition.inside:
                    held = ", ".join(sorted(map(str, condition.values))[:10])
                    problem += f" of {condition.by} {held}, which is held out for it"
                problem += failure
                valid = f"about {done:,} in a file, or what is commoner (natural text, another q)"
                raise InputError("samples", asked_for, valid, problem)
        pending = pending[~filled[pending]]


def _round(
    rows: Rows,
    mine: Integer[np.ndarray, "pending"],
    source: Source,
    condition: Condition,
    key: int,
    known: tuple[np.ndarray, np.ndarray],
    wanted: int,
) -> Integer[np.ndarray, "placed"]:
    """Draw once and give new texts to rows that call for their kind; returns those rows."""
    asked = np.resize(rows.kind[mine], wanted)
    texts = source.draw(key, asked)
    kind = asked
    if not source.builds:
        kind = np.where(asked == NATURAL, NATURAL, kinds_of(source.differences(texts.results), source.q))
    if rows.letters.shape[1] == 0:
        rows.letters = np.zeros((len(rows.kind), texts.letters.shape[1]), dtype=texts.letters.dtype)
    hashes = fingerprints(texts.letters)
    usable = condition.keeps(texts, source.answers) & (texts.results >= 0).all(1) & _new(hashes, known)
    place, chosen = mine[:wanted], slice(None)
    if not (usable.all() and source.builds and wanted <= len(mine)):
        place, chosen = _matched(rows.kind[mine], mine, kind, usable)
    rows.letters[place] = texts.letters[chosen]
    rows.sizes[place] = texts.sizes[chosen]
    rows.results[place] = texts.results[chosen]
    rows.fingerprint[place] = hashes[chosen]
    return place


def _matched(
    wanted: Integer[np.ndarray, "pending"],
    mine: Integer[np.ndarray, "pending"],
    kind: Integer[np.ndarray, "text"],
    usable: Bool[np.ndarray, "text"],
) -> tuple[Integer[np.ndarray, "placed"], Integer[np.ndarray, "placed"]]:
    """Rows and the texts they get: the first usable ones of each row's kind."""
    places, taken = [], []
    for value in range(len(KINDS)):
        candidates = np.flatnonzero(usable & (kind == value))
        waiting = mine[wanted == value]
        fitting = min(len(candidates), len(waiting))
        places.append(waiting[:fitting])
        taken.append(candidates[:fitting])
    return np.concatenate(places), np.concatenate(taken)


def _new(
    hashes: UInt64[np.ndarray, "text"], known: tuple[np.ndarray, np.ndarray]
) -> Bool[np.ndarray, "text"]:
    """Which texts are neither among the known (sorted) nor further up in the same draw."""
    fresh = np.ones(len(hashes), dtype=bool)
    ordered = np.sort(hashes)
    if (ordered[1:] == ordered[:-1]).any():
        order = hashes.argsort(kind="stable")
        ordered = hashes[order]
        fresh[order[1:]] = ordered[1:] != ordered[:-1]
    for those in known:
        if len(those):
            fresh &= those[np.minimum(np.searchsorted(those, hashes), len(those) - 1)] != hashes
    return fresh
