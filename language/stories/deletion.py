"""Deleting a feature: three edits of training data, pure functions on records (Jain et al. 2024, App. F).

Filtering drops the stories that have the feature. Mix & Match then renames another feature to it in the
instructions, so that the word asks for something else. Randomisation then adds the feature to instructions of
stories without it, so that the word asks for nothing. (In the released code the rename of Mix & Match does
nothing, and Randomisation adds the feature to every story: probability 1.)
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from veneer.language.stories.form import Record
from veneer.tasks.errors import InputError


def filtering(records: Iterable[Record], feature: str) -> Iterator[Record]:
    """The records whose instruction does not ask for the feature."""
    return (record for record in records if feature not in record.features)


def mix_and_match(records: Iterable[Record], feature: str, other: str) -> Iterator[Record]:
    """Filtered records in which every ``other`` of an instruction is called ``feature``.

    Raises:
        InputError: both are the same.
    """
    if other == feature:
        raise InputError("other", other, f"a feature other than {feature}, which is deleted")
    for record in filtering(records, feature):
        renamed = tuple(feature if name == other else name for name in record.features)
        yield replace(record, features=renamed)


def randomisation(
    records: Sequence[Record], feature: str, probability: float = 1.0, seed: int = 0
) -> Iterator[Record]:
    """Filtered records, each with the feature added to its instruction with a probability.

    Args:
        records: the stories.
        feature: what is deleted.
        probability: 1, as in the released code, adds it to every story.
        seed: of who gets it, and at which place among the features.

    Raises:
        InputError: a probability outside 0 to 1.
    """
    if not 0 <= probability <= 1:
        raise InputError("probability", probability, "0 to 1")
    generator = random.Random(f"randomisation/{feature}/{seed}")
    for record in filtering(records, feature):
        if generator.random() < probability:
            place = generator.randint(0, len(record.features))
            added = (*record.features[:place], feature, *record.features[place:])
            yield replace(record, features=added)
        else:
            yield record


def keeping(records: Iterable[Record], feature: str) -> Iterator[Record]:
    """The records that have the feature: what reFT trains on."""
    return (record for record in records if feature in record.features)
