"""What a claim of a paper is: a statement, its place, the runs that can answer, and a rule."""

from collections.abc import Callable
from dataclasses import dataclass

from veneer.claims.evidence import Measured
from veneer.claims.needs import Needs


@dataclass(frozen=True)
class Claim:
    """One claim and how it is judged.

    Attributes:
        number: the protocols' number, with a for written and b for learned capabilities; of Lin 2024, with L.
        statement: what the paper says.
        place: where it says so; the paper's number, if there is one, is from the table named there.
        needs: the runs to measure, in the order in which ``measure`` takes them.
        rule: what is compared with which threshold, in words.
        seeds: fewest seeds.
        measure: the inequalities, from those runs.
        changed: when the rule was last changed, and why; empty if it is as first written.
    """

    number: str
    statement: str
    place: str
    needs: tuple[Needs, ...]
    rule: str
    seeds: int
    measure: Callable[..., Measured]
    changed: str = ""
