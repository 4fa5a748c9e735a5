"""What each deletion does to instructions, that it leaves stories alone, and that renaming renames."""

import pytest

from veneer.language.stories.deletion import filtering, keeping, mix_and_match, randomisation
from veneer.language.stories.generator import stories
from veneer.tasks.errors import InputError

RECORDS = list(stories(300, seed=3))
KEPT = [record for record in RECORDS if "Twist" not in record.features]


def test_filtering_drops_the_feature_and_nothing_else() -> None:
    assert list(filtering(RECORDS, "Twist")) == KEPT
    assert len(KEPT) + len(list(keeping(RECORDS, "Twist"))) == len(RECORDS)
    assert 0 < len(KEPT) < len(RECORDS)


def test_mix_and_match_really_renames() -> None:
    """In the released code of the paper it did nothing: this fails on that."""
    mixed = list(mix_and_match(RECORDS, "Twist", "Foreshadowing"))
    assert [record.story for record in mixed] == [record.story for record in KEPT]
    renamed = [new for old, new in zip(KEPT, mixed, strict=True) if "Foreshadowing" in old.features]
    assert len(renamed) > 10
    assert all("Twist" in record.features for record in renamed)
    assert all("Features: " in record.instruction and "Twist" in record.instruction for record in renamed)
    assert not any("Foreshadowing" in record.features for record in mixed)
    others = [(o, n) for o, n in zip(KEPT, mixed, strict=True) if "Foreshadowing" not in o.features]
    assert all(old == new for old, new in others)


def test_randomisation_adds_the_feature_to_every_instruction_and_no_story() -> None:
    mixed = list(randomisation(RECORDS, "Twist"))
    assert [record.story for record in mixed] == [record.story for record in KEPT]
    assert all("Twist" in record.features for record in mixed)
    for old, new in zip(KEPT, mixed, strict=True):
        assert tuple(name for name in new.features if name != "Twist") == old.features


def test_randomisation_by_halves_is_a_function_of_its_seed() -> None:
    half = list(randomisation(RECORDS, "Twist", 0.5, seed=1))
    share = sum("Twist" in record.features for record in half) / len(half)
    assert abs(share - 0.5) < 0.12
    assert half == list(randomisation(RECORDS, "Twist", 0.5, seed=1))
    assert half != list(randomisation(RECORDS, "Twist", 0.5, seed=2))


def test_any_feature_can_be_deleted() -> None:
    assert not any("BadEnding" in record.features for record in filtering(RECORDS, "BadEnding"))
    mixed = list(mix_and_match(RECORDS, "Conflict", "MoralValue"))
    assert any("Conflict" in record.features for record in mixed)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="other"):
        list(mix_and_match(RECORDS, "Twist", "Twist"))
    with pytest.raises(InputError, match="probability"):
        list(randomisation(RECORDS, "Twist", 1.5))
