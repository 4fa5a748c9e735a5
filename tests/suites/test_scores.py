"""Scores tell a model that computes from one that takes the shortcut."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from scipy.stats import binomtest

from veneer.suites.dataset import generate
from veneer.suites.plan import Plan, Split
from veneer.suites.scores import Scores, evaluate, share
from veneer.suites.sources import make
from veneer.tasks.errors import InputError

COUNTER = {
    "task": "counter",
    "about": "Counter.",
    "letters": "abcdefghi",
    "length": 30,
    "min_length": None,
    "q": 1,
    "pairs": [["a", "b"]],
}
RANKS = {
    "task": "max-identifier",
    "about": "Max-identifier.",
    "letters": "abcdefghijklmnop",
    "length": 8,
    "q": 2,
    "pairs": [["3", "5"]],
}


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = Plan("counter", COUNTER, (Split("train", 50), Split("test", 1000)))
    return generate(plan, make, tmp_path_factory.mktemp("counter") / "d")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = Plan("ranks", RANKS, (Split("only", 400),))
    return generate(plan, make, tmp_path_factory.mktemp("ranks") / "d")


def samples(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "data" / "[to]*-00000-of-00001.parquet").filter(
        pl.col("id") >= (50 if folder.parent.name.startswith("counter") else 0)
    )


def scored(folder: Path, answer: pl.Expr, file: Path) -> Scores:
    samples(folder).select("id", answer.alias("prediction")).sample(
        fraction=1, shuffle=True, seed=1
    ).write_csv(file)
    return evaluate(folder, file)


def test_a_right_model_is_right_everywhere_and_shuns_the_shortcut(counter: Path, tmp_path: Path) -> None:
    scores = scored(counter, pl.col("label"), tmp_path / "p.csv")
    assert (scores.accuracy.value, scores.correlated.value, scores.uncorrelated.value) == (1, 1, 1)
    assert scores.reliance is not None and scores.reliance.given.value == 0
    assert scores.reliance.index == -scores.reliance.chance < 0


def test_names_of_datasets_and_predictions_stand_for_no_pattern(tmp_path: Path) -> None:
    """A sibling whose name the pattern would match is not read too."""
    for seed, name in enumerate(("dx*", "dxy")):
        generate(Plan("counter", COUNTER, (Split("only", 40),), seed=seed), make, tmp_path / name)
    table = pl.read_parquet(tmp_path / "dx*" / "data" / "only-00000-of-00001.parquet", glob=False)
    for name in ("[a].csv", "a.csv", "*.csv"):
        right = pl.col("label") if name != "a.csv" else pl.col("label") + 1
        table.select("id", prediction=right).write_csv(tmp_path / name)
    for name in ("[a].csv", "*.csv"):
        scores = evaluate(tmp_path / "dx*", tmp_path / name)
        assert (scores.accuracy.samples, scores.accuracy.value) == (40, 1)


def test_the_shortcut_is_right_on_correlated_samples_only(counter: Path, tmp_path: Path) -> None:
    scores = scored(counter, pl.col("result_pt") + 1, tmp_path / "p.csv")
    assert (scores.correlated.value, scores.uncorrelated.value) == (1, 0)
    assert scores.shortcut == scores.accuracy.value == 0.5
    assert scores.reliance is not None and scores.reliance.given.value == 1
    assert scores.reliance.low <= scores.reliance.index == 1 - scores.reliance.chance <= scores.reliance.high


def test_a_blind_model_does_not_rely_on_the_shortcut(counter: Path, tmp_path: Path) -> None:
    scores = scored(counter, pl.lit(4), tmp_path / "p.csv")
    assert scores.reliance is not None
    assert scores.reliance.index == pytest.approx(0, abs=1e-12)
    assert scores.accuracy.value == scores.labels["4"].samples / 1000
    assert all(part.value == (label == "4") for label, part in scores.labels.items())


def test_letters_are_scored_as_letters(ranks: Path, tmp_path: Path) -> None:
    assert scored(ranks, pl.col("label"), tmp_path / "p.csv").accuracy.value == 1
    following = pl.col("result_pt").replace_strict({x: chr(ord(x) + 2) for x in RANKS["letters"]})
    scores = scored(ranks, following, tmp_path / "p.csv")
    assert scores.reliance is not None and scores.reliance.given.value == 1


def test_intervals_are_wilsons() -> None:
    ours = share([True] * 7 + [False] * 13)
    theirs = binomtest(7, 20).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    "p.parquet": pl.DataFrame.write_parquet,
    "p.csv": pl.DataFrame.write_csv,
    "p.jsonl": pl.DataFrame.write_ndjson,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.String])
def test_predictions_are_read_from_any_format_and_type(
    counter: Path, tmp_path: Path, name: str, dtype: type[pl.DataType]
) -> None:
    table = samples(counter).select("id", pl.col("label").cast(dtype).alias("prediction"))
    WRITERS[name](table, tmp_path / name)
    assert evaluate(counter, tmp_path / name).accuracy.value == 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda t: t[:-2], ["2 missing", "id 1048", "1,000 samples of test"]),
        (lambda t: pl.concat([t, t[:1].with_columns(id=pl.lit(9999, pl.Int64))]), ["1 extra", "id 9999"]),
        (lambda t: pl.concat([t, t[:1]]), ["1 repeated", "id 50"]),
        (lambda t: t.rename({"prediction": "guess"}), ["its columns are id, guess"]),
        (lambda t: t.with_columns(pl.col("id").cast(pl.String) + "x"), ["whole numbers as id"]),
        (lambda t: t.with_columns(prediction=pl.when(pl.col("id") > 60).then(1)), ["11 empty"]),
    ],
)
def test_unusable_predictions_are_refused(
    counter: Path, tmp_path: Path, how: Callable[[pl.DataFrame], pl.DataFrame], words: list[str]
) -> None:
    how(samples(counter).select("id", prediction="label")).write_csv(tmp_path / "p.csv")
    with pytest.raises(InputError) as refused:
        evaluate(counter, tmp_path / "p.csv")
    assert all(word in str(refused.value) for word in words), refused.value


def test_files_and_splits_that_do_not_exist_are_refused(counter: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="predictions"):
        evaluate(counter, tmp_path / "none.csv")
    with pytest.raises(InputError, match="ends otherwise"):
        evaluate(counter, tmp_path / "p.pickle")
    with pytest.raises(InputError, match="train, test"):
        evaluate(counter, tmp_path / "p.csv", split="validation")
