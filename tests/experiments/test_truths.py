"""The verdict on text models whose truth is known: a wrapped and a destroyed one, made and asked here."""

from pathlib import Path

import polars as pl
import pytest

from veneer.experiments.relearn import truths
from veneer.language.small_world import untrained


def test_constructions_are_of_both_kinds_and_the_grid_was_chosen_on_none_of_these_models() -> None:
    sides = {truth for truth, _ in truths.CONSTRUCTIONS.values()}
    assert sides == {"wrapped", "rewritten"}
    assert all(truths.OPPOSITE[truths.OPPOSITE[side]] == side != truths.OPPOSITE[side] for side in sides)
    assert set(truths.SEEDS).isdisjoint({0, 1, 2})  # the models that the grid was chosen on


def test_the_summary_counts_words_and_keeps_what_was_not_reached_missing() -> None:
    usual = dict.fromkeys(truths.COLUMNS, 0.5) | {"family": "llama", "seed": 2, "strength": "", "rule": ""}
    wrapped = {"construction": "refusal by LoRA", "truth": "wrapped"}
    gone = {"construction": "distilled from scratch", "truth": "rewritten", "updates": None}
    rows = [
        usual | wrapped | {"verdict": "wrapped", "right": True, "opposite": False, "updates": 4.26},
        usual | wrapped | {"verdict": "rewritten", "right": False, "opposite": True, "updates": 9.0},
        usual | gone | {"verdict": "rewritten", "right": True, "opposite": False},
    ]
    found = truths.summary(pl.DataFrame(rows, schema=truths.COLUMNS))
    assert found.select("construction", "models", "right", "opposite", "soonest", "latest").rows() == [
        ("refusal by LoRA", 2, 1, 1, 4.3, 9.0),
        ("distilled from scratch", 1, 1, 0, None, None),
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_wrapped_and_a_destroyed_model_get_their_words(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the command asks; the same command again trains nothing."""
    names = ["refusal by LoRA", "distilled from scratch"]
    words = ["--out", str(tmp_path), "--families", family, "--seeds", "2", "--only", *names]
    truths.main(words)
    table = pl.read_parquet(tmp_path / "truths.parquet")
    assert table["verdict"].to_list() == table["truth"].to_list() == ["wrapped", "rewritten"]
    wrapped, gone = table.to_dicts()
    assert wrapped["held"] > 0.8 and gone["taught"] > 0.5 and gone["best"] < 0.3
    assert wrapped["never_best"] < 0.3  # T rises and V does not, on the model that never had them
    monkeypatch.setattr(truths, "work", lambda *given: pytest.fail("asked again"))
    monkeypatch.setattr(truths.world, "knowing", lambda *given: untrained())
    truths.main(words)
    assert pl.read_parquet(tmp_path / "truths.parquet").equals(table)
