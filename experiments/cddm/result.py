"""What a run of decisions comes to: tables as Parquet, comparisons as JSON, rows for a terminal or a page."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from veneer.analysis.revival import Estimate
from veneer.experiments.cddm.evidence import BySeed, Measured, less, over
from veneer.experiments.cddm.settings import ARMS, NAMES, Arm
from veneer.experiments.cddm.store import LOOKS, DecisionsRun
from veneer.models.files import write_json, write_table
from veneer.tasks.errors import InputError

FEWEST = 3
"""Seeds below which a comparison is not answered, as for claims."""


@dataclass(frozen=True)
class Comparison:
    """A question about insides that the fine-tuned arm and the one from scratch answer between them.

    Attributes:
        question: in words, so that "yes" is what Lin (2024) says.
        answer: "yes", "no", "not decided", "void" or "not measured".
        quantity: what is compared, in words.
        tuned: of the fine-tuned arm, over the seeds that count.
        scratch: of the arm from scratch.
        difference: fine-tuned less from scratch, paired by seed; "yes" is where ``sign`` times it is above 0.
        sign: 1 or -1.
    """

    question: str
    answer: str
    quantity: str
    tuned: Estimate
    scratch: Estimate
    difference: Estimate
    sign: int = 1

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One arm in a table.

    Attributes:
        arm: which.
        seeds: models that have been looked into.
        reached: how many of them got to the accuracy that was asked for; None of what is not trained.
        updates: that they trained for.
        accuracy: on held-out numbers, at the end.
        wording: on held-out numbers in a held-out wording.
        language: loss on ordinary texts, nats a token.
        depth: centroid of what heads cost.
        likeness: CKA with the pretrained model, later half.
    """

    arm: Arm
    seeds: int
    reached: int | None
    updates: Estimate
    accuracy: Estimate
    wording: Estimate
    language: Estimate
    depth: Estimate
    likeness: Estimate

    @property
    def name(self) -> str:
        """The arm as a reader calls it."""
        return NAMES[self.arm]


Quantity = Callable[[Arm], BySeed]


def conclude(run: DecisionsRun) -> list[Comparison]:
    """Compare what is there, and write tables and comparisons.

    Raises:
        InputError: nothing has been measured.
    """
    measured = Measured(run)
    if measured.curves.is_empty() and not measured.seeds("pretrained"):
        raise InputError("run", str(run.path), "a run with a trial that is done")
    write_table(run.path / "accuracy.parquet", measured.curves)
    for name in LOOKS:
        if not (table := measured.table(name)).is_empty():
            write_table(run.path / f"{name}.parquet", table)
    found = comparisons(measured)
    write_json(run.path / "answer.json", [own.plain() for own in found])
    return found


def comparisons(measured: Measured) -> list[Comparison]:
    """The questions of the paper that two arms answer, each over the seeds that are matched."""
    asked: list[tuple[str, str, Quantity, int]] = [
        (
            "Does fine-tuning lean on later layers than training from scratch does?",
            "depth of the heads that matter (0 first block, 1 last)",
            lambda arm: measured.depth(arm),
            1,
        ),
        (
            "Does it lean on the heads that matter for ordinary texts?",
            "rank correlation over heads with what they cost the pretrained model's texts",
            lambda arm: measured.shared_heads(arm),
            1,
        ),
        (
            "Does it stay closer to the pretrained model in later layers?",
            "CKA with the pretrained model, later half",
            lambda arm: measured.likeness(arm, later=True),
            1,
        ),
        (
            "Is what is trained from scratch more specific to the task?",
            "share of the units that tell a variable, mean over the variables",
            lambda arm: measured.telling_units(arm),
            -1,
        ),
    ]
    matched = measured.matched()
    both = sorted({*measured.accuracy("fine-tuned")} & {*measured.accuracy("scratch")})
    return [_compared(*one, matched, both) for one in asked]


def _compared(
    question: str, quantity: str, of: Quantity, sign: int, matched: list[int], both: list[int]
) -> Comparison:
    seeds = matched or both
    tuned, scratch = of("fine-tuned"), of("scratch")
    difference = less(tuned, scratch, seeds)
    ends = (over(tuned, seeds), over(scratch, seeds))
    return Comparison(question, _word(difference, sign, matched, both), quantity, *ends, difference, sign)


def _word(difference: Estimate, sign: int, matched: list[int], both: list[int]) -> str:
    if not both or difference.value is None:
        return "not measured"
    if not matched:
        return "void"
    low, high = difference.low, difference.high
    if len(matched) < FEWEST or low is None or high is None or low <= 0 <= high:
        return "not decided"
    return "yes" if sign * difference.value > 0 else "no"


def rows(run: DecisionsRun) -> list[Row]:
    """Every arm, as far as it is measured."""
    from veneer.experiments.cddm.work import WORDED

    measured = Measured(run)
    found = []
    for arm in ARMS:
        accuracy = measured.accuracy(arm)
        reached = measured.reached(arm)
        if not accuracy and not reached:
            continue
        found.append(
            Row(
                arm,
                len(accuracy),
                sum(reached.values()) if reached else None,
                over(measured.updates(arm), least=0.0),
                over(accuracy, least=0.0, most=1.0),
                over(measured.accuracy(arm, WORDED), least=0.0, most=1.0),
                over(measured.language(arm), least=0.0),
                over(measured.depth(arm), least=0.0, most=1.0),
                over(measured.likeness(arm, later=True), least=0.0, most=1.0),
            )
        )
    return found
