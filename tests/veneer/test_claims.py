"""Each claim of the paper can come out either way, or undecided, on runs whose numbers are made up."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

from analysis.revival import Estimate
from pcfg.families import SampleLayout
from veneer import claim_rules as rules
from veneer import claim_rules_inside as inside
from veneer.claim_evidence import Finding, Measured, Part, View, judge
from veneer.claims import CLAIMS, COMMANDS, OUTCOMES, claims, evaluate
from veneer.cli import main
from veneer.experiments import PRESETS, Experiment
from veneer.store import KEYS, Run, write_json

Number = float | Callable[[int], float]
Rows = list[dict[str, Any]]
GUESS = 0.2
EITHER, YES, NO = "undecidable at this size", "replicated", "not replicated"
KINDS = [(texts, operand) for texts in ("natural", "uncorrelated", "correlated") for operand in ("pt", "ft")]


def wavering(low: float, high: float) -> Callable[[int], float]:
    """A number that no threshold between separates: low for even seeds, high for odd ones."""
    return lambda seed: high if seed % 2 else low


def at(value: Number, seed: int) -> float:
    """A seed's value, a little apart from other seeds'."""
    return value(seed) if callable(value) else value + 0.002 * (seed % 3)


def cell(
    name: str, rate: float, c_tr: float | None, seed: int, *, tuned_at: float | None = None, **more: Any
) -> dict[str, Any]:
    """The columns that identify a cell; with tuned_at, of a reFT after fine-tuning at that rate."""
    stage = "reft" if tuned_at is not None else "fine-tune"
    keys = {"capability": name, "start": "capability", "task": "task", "stage": stage, "seed": seed}
    keys |= {"learning_rate": rate, "fine_tuning_rate": tuned_at or rate, "c_tr": c_tr, "parent": ""}
    keys |= {"status": "done", **more}
    return {**keys, "cell": f"{name}/{keys['start']}/{stage}/{rate}/{tuned_at}/{c_tr}/{seed}"}


def accuracies(keys: dict[str, Any], end: dict[str, Number], start: dict[str, Number]) -> Rows:
    """A fine-tuning's metrics: accuracies before and after, of what is not named GUESS."""
    seed = keys["seed"]
    return [
        {**keys, "step": step, "measure": "accuracy", "texts": texts, "operand": operand}
        | {"value": at(values.get(f"{texts}_{operand}", GUESS), seed)}
        for step, values in ((0, start), (100, end))
        for texts, operand in KINDS
    ]


def curve(keys: dict[str, Any], time: float, last: float = 0.97) -> Rows:
    """A reFT's metrics: O_PT reaches its last accuracy after some updates."""
    steps = sorted({0, round(time / 2), round(time), round(time * 2), 800} | {800})
    return [
        {**keys, "step": step, "measure": "accuracy", "texts": "natural", "operand": "pt"}
        | {"value": 0.1 if step < time else last}
        for step in steps
        if step <= 800
    ]


class Made:
    """What ``View`` reads of a run, without one."""

    def __init__(self, path: Path, experiment: Experiment, rows: Rows) -> None:
        self.path = path
        self.rows = rows
        fields = json.loads(json.dumps(asdict(experiment)))
        self.experiment = {"name": experiment.name, "fields": fields}

    def metrics(self) -> pl.DataFrame:
        schema = {**KEYS, "step": pl.Int64, "measure": pl.String, "texts": pl.String}
        return pl.DataFrame(self.rows, schema={**schema, "operand": pl.String, "value": pl.Float64})

    def baselines(self, task: str) -> dict[str, Any]:
        assert task == "task"
        return {texts: {"majority": {"pt": GUESS, "ft": GUESS}} for texts, _ in KINDS}

    def capability(self, name: str, prior: tuple[float, ...], iterations: int = 6000) -> None:
        """Files of a learned capability."""
        folder = self.path / "capabilities" / f"{name}-seed-0"
        about = {"operand_prior": prior, "iterations": iterations, "parameters": 1000}
        write_json(folder / "accuracy.json", {"about": about})
        write_json(folder / "model.json", {"metadata": {"layout": SampleLayout().describe()}})

    def table(self, name: str, rows: Rows) -> None:
        """A table of ``veneer analyse``."""
        (self.path / "analysis").mkdir(parents=True, exist_ok=True)
        frame = pl.DataFrame(rows, infer_schema_length=None)
        frame.write_parquet(self.path / "analysis" / f"{name}.parquet")

    @property
    def view(self) -> View:
        return View(cast(Run, self))


def answer(number: str, *made: Made) -> Finding:
    """What these runs say about a claim; every answer must be a sentence that fits its outcome."""
    (claim,) = claims([number])
    found = evaluate(claim, [run.view for run in made])
    assert found.explanation.startswith(found.outcome.removesuffix(" at this size"))
    assert found.explanation.endswith(".") or found.outcome == "no run"
    return found


COUNTER = replace(PRESETS["counter"]["quick"], seeds=5, c_tr=(0.0, 0.8, 1.0))


def counter(
    path: Path,
    *,
    wrong: Number = 0.2,
    large: Number = 0.97,
    small: Number = 0.15,
    back: float = 0.97,
    after_large: float = 0.2,
    control: Callable[[int], float] = lambda seed: 400.0 + seed,
    seeds: int = 5,
) -> Made:
    """The Counter's run as the paper has it, but for what is given.

    Args:
        path: its folder.
        wrong: O_FT accuracy at C_Te = 0 after C_Tr = 1.
        large: the same after large rates with less C_Tr.
        small: the same after small rates.
        back: O_PT accuracy after reFT of what was fine-tuned at 1e-2 or less.
        after_large: the same after 1e-1.
        control: by seed, updates that Scr. + FT needs to get O_PT; reFT needs 50.
        seeds: how many.
    """
    rows: Rows = []
    for seed in range(seeds):
        for rate in (0.1, 0.01, 0.001, 0.0001):
            for c in (0.0, 0.8, 1.0):
                little = large if rate > 5e-3 else small
                right: Number = 0.97 if c or rate > 5e-3 else GUESS
                end: dict[str, Number] = {
                    "correlated_ft": right,
                    "uncorrelated_ft": little if c < 1 else wrong,
                }
                rows += accuracies(cell("compiled", rate, c, seed), end, {"natural_pt": 0.99})
                last = after_large if rate > 0.05 else back
                rows += curve(cell("compiled", 1e-4, c, seed, tuned_at=rate), 50 + seed, last)
        scratch = cell("compiled", 1e-4, 0.0, seed, tuned_at=0.1, start="scratch")
        rows += curve(scratch, control(seed))
    return Made(path, replace(COUNTER, seeds=seeds), rows)


@pytest.mark.parametrize(
    ("number", "change", "outcome"),
    [
        ("1a", {}, YES),
        ("1a", {"wrong": 0.9}, NO),
        ("1a", {"wrong": wavering(0.3, 0.65)}, EITHER),
        ("1a", {"seeds": 4}, EITHER),
        ("2", {}, YES),
        ("2", {"large": 0.3}, NO),
        ("2", {"small": 0.9}, NO),
        ("2", {"large": wavering(0.5, 0.9)}, EITHER),
        ("3", {}, YES),
        ("3", {"back": 0.25}, NO),
        ("3", {"after_large": 0.97}, NO),
        ("3", {"seeds": 2}, EITHER),
        ("4a", {}, YES),
        ("4a", {"control": lambda seed: 60.0 + seed}, NO),
        ("4a", {"control": lambda seed: 1e9}, YES),  # never gets there: at least so many times
        ("4a", {"control": lambda seed: 60.0 if seed % 2 else 400.0}, EITHER),
        ("4a", {"control": lambda seed: 1e9, "back": 0.5}, EITHER),  # neither gets there
    ],
)
def test_claims_of_the_counter_that_accuracies_decide(
    tmp_path: Path, number: str, change: dict[str, Any], outcome: str
) -> None:
    found = answer(number, counter(tmp_path, **change))
    assert found.outcome == outcome, found.explanation


def test_effect_is_the_weakest_of_the_settings_and_stands_beside_the_papers(tmp_path: Path) -> None:
    found = answer("1a", counter(tmp_path, wrong=0.2))
    assert found.effect is not None
    assert found.effect.value == pytest.approx(0.77)
    assert found.paper == pytest.approx(0.943 - 0.022)  # Tab. 3, 1e-3, the least of the four rates
    assert found.seeds == 5


def test_a_control_that_never_gets_there_gives_a_lower_bound(tmp_path: Path) -> None:
    found = answer("4a", counter(tmp_path, control=lambda seed: 1e9))
    assert found.effect is not None
    assert found.effect.value is None
    assert found.effect.low == pytest.approx(800 / 52, rel=0.1)
    assert "at least" in found.explanation


def prune_rows(
    made: Made, unit: str, k: int, gain: Number, random: Number, fall: float, onto: float
) -> tuple[Rows, Rows]:
    """Tables of a pruning: at one K saliency adds ``gain`` to O_PT, random pruning ``random``.

    Of the predictions a share ``onto`` is one class too many.
    """
    accuracy, classes = [], []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").select("cell", "seed").unique()
    for name, seed in tuned.iter_rows():
        for criterion, added in (("saliency", gain), ("random", random)):
            key = {"cell": name, "unit": unit, "criterion": criterion, "draw": 0}
            for size in (0, 10, 100):
                here = size == k
                for texts, operand in KINDS:
                    value = 0.2 + (at(added, seed) if here else 0.0) if operand == "pt" else 0.9
                    value -= fall if operand == "ft" and here and criterion == "saliency" else 0.0
                    told = {"texts": texts, "operand": operand, "accuracy": value}
                    accuracy.append({**key, "k": size, **told})
                for index in (0, 1):
                    share = 0.5 + (onto if index else -onto) * here
                    told = {"texts": "uncorrelated", "class": index, "share": share, "expected": 0.5}
                    classes.append({**key, "k": size, **told})
    return accuracy, classes


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, YES),
        ({"gain": 0.05}, NO),
        ({"gain": wavering(0.1, 0.6)}, EITHER),
        ({"random": 0.6}, NO),  # any damage would have done it
        ({"fall": 0.0}, NO),  # O_FT is as right as before
        ({"onto": 0.5}, NO),  # a collapse onto one class
        ({"k": 100}, NO),  # too many weights
    ],
)
@pytest.mark.parametrize(("number", "unit"), [("5a", "weight"), ("5b", "neuron")])
def test_pruning_counts_if_few_weights_do_what_neither_chance_nor_collapse_does(
    tmp_path: Path, number: str, unit: str, change: dict[str, Any], outcome: str
) -> None:
    made = counter(tmp_path) if number == "5a" else learned(tmp_path)
    settings = {"k": 10, "gain": 0.6, "random": 0.02, "fall": 0.5, "onto": 0.1, **change}
    accuracy, classes = prune_rows(made, unit, **settings)
    made.table("pruning", accuracy)
    made.table("classes", classes)
    found = answer(number, made)
    assert found.outcome == outcome, found.explanation


@pytest.mark.parametrize(
    ("small", "moved", "outcome"),
    [
        (0.8, 0.9, YES),
        (0.1, 0.9, NO),  # a small rate lost O_PT's tokens
        (0.8, 0.02, NO),  # a large rate with C_Tr = 0 kept them
        (wavering(0.1, 0.8), 0.9, EITHER),
    ],
)
def test_attention_stays_but_for_large_rates_without_correlation(
    tmp_path: Path, small: Number, moved: Number, outcome: str
) -> None:
    made, rows = counter(tmp_path), []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").unique("cell").select(*KEYS).to_dicts()
    models = [(keys, at(0.1 if _moves(keys) else small, keys["seed"])) for keys in tuned]
    models.append(({**cell("compiled", 0.0, None, 0), "stage": "capability"}, 0.9))
    for keys, share in models:
        on_ft = at(moved, keys["seed"]) if _moves(keys) else 0.05
        for on, value in (("pt", share), ("ft", on_ft), ("other", 0.0)):
            place = {"asked": None, "kind": "natural", "block": 1, "head": 0, "on": on}
            rows.append({**keys, **place, "share": value})
    made.table("attention", rows)
    assert answer("7", made).outcome == outcome


def _moves(keys: dict[str, Any]) -> bool:
    return keys["learning_rate"] > 5e-3 and keys["c_tr"] == 0


PCFG = replace(PRESETS["pcfg-counter"]["quick"], seeds=3)
PRIORS = {"L": (0.999, 0.001, 0.0), "H": (0.5, 0.3, 0.2)}


def learned(
    path: Path,
    *,
    wrong: Number = 0.1,
    resisted: Number = 0.5,
    kept: Number = 0.6,
    names: tuple[str, str] = ("H", "L"),
    reft: Callable[[int], float] = lambda seed: 50.0 + seed,
    control: float = 190.0,
    experiment: Experiment = PCFG,
    seeds: int = 3,
) -> Made:
    """A run of two learned capabilities.

    Args:
        path: its folder.
        wrong: O_FT accuracy at C_Te = 0 after fine-tuning of the second.
        resisted: the same of the first.
        kept: O_PT accuracy at C_Te = 0 after fine-tuning of the first; the second's is 0.2.
        names: the capabilities.
        reft: by seed, updates that reFT needs.
        control: updates that Scr. + FT needs.
        experiment: with its fields.
        seeds: how many.
    """
    rows: Rows = []
    for name in names:
        first = name == names[0]
        for seed in range(seeds):
            for rate in (3e-3, 1e-3, 3e-4, 1e-4):
                for c in (0.8, 1.0):
                    end: dict[str, Number] = {"correlated_ft": 0.97, "natural_pt": 0.2}
                    end |= {"uncorrelated_ft": resisted if first else wrong}
                    end |= {"uncorrelated_pt": kept if first else 0.2}
                    before: dict[str, Number] = {"uncorrelated_pt": 0.99, "natural_pt": 0.99}
                    rows += accuracies(cell(name, rate, c, seed), end, before)
                    rows += curve(cell(name, 1e-4, c, seed, tuned_at=rate), reft(seed))
            scratch = cell(name, 1e-4, 0.0, seed, tuned_at=3e-3, start="scratch")
            rows += curve(scratch, control + seed)
    made = Made(path, replace(experiment, seeds=seeds), rows)
    for name in names:
        made.capability(name, PRIORS.get(name, (0.9, 0.1, 0.0)))
    return made


@pytest.mark.parametrize(
    ("number", "change", "outcome"),
    [
        ("1b", {}, YES),
        ("1b", {"wrong": 0.9}, NO),
        ("1b", {"wrong": wavering(0.2, 0.8)}, EITHER),
        ("1b", {"seeds": 2}, EITHER),
        ("4b", {}, YES),
        ("4b", {"control": 60.0}, NO),
        ("4b", {"reft": lambda seed: 20.0 if seed else 150.0}, EITHER),
        ("8", {}, YES),
        ("8", {"resisted": 0.1}, NO),
        ("8", {"kept": 0.2}, NO),
        ("8", {"resisted": wavering(0.1, 0.6)}, EITHER),
    ],
)
def test_claims_of_learned_capabilities_that_accuracies_decide(
    tmp_path: Path, number: str, change: dict[str, Any], outcome: str
) -> None:
    found = answer(number, learned(tmp_path, **change))
    assert found.outcome == outcome, found.explanation


def test_a_higher_prior_is_told_by_the_models_and_not_by_their_names(tmp_path: Path) -> None:
    made = learned(tmp_path)
    made.capability("H", PRIORS["L"])
    made.capability("L", PRIORS["H"])
    assert answer("8", made).outcome == NO


@pytest.mark.parametrize(
    ("elsewhere", "carved", "outcome"),
    [
        (0.8, 0.45, YES),
        (0.15, 0.1, NO),  # probes do no better than from scratch
        (0.7, 0.9, NO),  # the exception is none
        (wavering(0.2, 0.8), 0.1, EITHER),
    ],
)
def test_probes_still_read_the_capability_but_for_the_exception(
    tmp_path: Path, elsewhere: Number, carved: Number, outcome: str
) -> None:
    made, rows = learned(tmp_path), []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").unique("cell").select(*KEYS).to_dicts()
    models = [
        (keys, at(carved if keys["capability"] == "L" and keys["learning_rate"] > 2e-4 else elsewhere, seed))
        for keys, seed in zip(tuned, (keys["seed"] for keys in tuned), strict=True)
    ]
    for seed in range(3):
        for name in ("L", "H"):
            models.append(({**cell(name, 0.0, None, seed), "stage": "capability"}, 0.9))
            models.append((cell(name, 3e-3, 0.0, seed, start="scratch"), 0.1))
    for keys, right in models:
        for labels, accuracy in (("real", right + 0.05), ("control", 0.05)):
            place = {"residual": 1, "target": "pt", "method": "logistic", "labels": labels}
            rows.append({**keys, **place, "accuracy": accuracy})
            rows.append({**keys, **place, "residual": 0, "accuracy": 0.05})
    made.table("probes", rows)
    found = answer("6", made)
    assert found.outcome == outcome, found.explanation


@pytest.mark.parametrize(("kept", "outcome"), [(0.6, YES), (0.2, NO), (wavering(0.2, 0.6), EITHER)])
def test_pretraining_counts_between_models_of_one_prior(tmp_path: Path, kept: Number, outcome: str) -> None:
    made = learned(tmp_path, names=("M", "M-early"), kept=kept)
    made.capability("M-early", (0.9, 0.1, 0.0), iterations=2000)
    assert answer("9", made).outcome == outcome
    made.capability("M-early", (0.5, 0.3, 0.2), iterations=2000)
    assert answer("9", made).outcome == "no run"


@pytest.mark.parametrize(("worst", "outcome"), [(0.9, YES), (0.25, NO), (wavering(0.3, 0.9), EITHER)])
def test_jailbreaks_count_by_the_worst_token_that_was_not_fine_tuned(
    tmp_path: Path, worst: Number, outcome: str
) -> None:
    made, rows = learned(tmp_path, experiment=replace(PCFG, task_token="T_NJ")), []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").unique("cell").select(*KEYS).to_dicts()
    for keys in tuned:
        for token, value in (("T_NJ", 0.2), ("T_J1", 0.97), ("T_J2", at(worst, keys["seed"]))):
            rows.append({**keys, "token": token, "operand": "pt", "texts": "natural", "accuracy": value})
            rows.append({**keys, "token": token, "operand": "ft", "texts": "natural", "accuracy": 0.01})
    made.table("jailbreak", rows)
    assert answer("10", made).outcome == outcome


@pytest.mark.parametrize(
    ("time", "outcome"),
    [
        (lambda seed: 55.0, YES),
        (lambda seed: 180.0 + seed, NO),  # much slower
        (lambda seed: 10.0, NO),  # much faster is not about equal either
        (lambda seed: 20.0 if seed else 150.0, EITHER),
        (lambda seed: 1e9, NO),  # never, within 800 updates
    ],
)
def test_rand_ft_is_held_against_ordinary_fine_tuning(
    tmp_path: Path, time: Callable[[int], float], outcome: str
) -> None:
    ordinary = learned(tmp_path / "ordinary")
    taught = learned(tmp_path / "taught", reft=time, experiment=replace(PCFG, rand_ft=0.5))
    found = answer("11", taught, ordinary)
    assert found.outcome == outcome, found.explanation
    assert answer("11", taught).outcome == "no run"


@pytest.mark.parametrize(
    ("large", "small", "last", "outcome"),
    [
        (0.5, 0.02, 0.05, YES),
        (0.05, 0.02, 0.05, NO),  # 1e-3 keeps the sorting too
        (0.5, 0.3, 0.05, NO),  # 1e-4 does not
        (0.5, 0.02, 0.0, NO),  # block 2 looks where it did
        (wavering(0.02, 0.5), 0.02, 0.05, EITHER),
    ],
)
def test_sorting_is_distorted_by_large_rates_only(
    tmp_path: Path, large: Number, small: Number, last: Number, outcome: str
) -> None:
    fine: Rows = []
    table: Rows = []
    for seed in range(5):
        for rate in (1e-2, 1e-3, 1e-4):
            keys = cell("compiled", rate, 1.0, seed)
            fine += accuracies(keys, {"correlated_ft": 0.97}, {})
            for block, moved in ((0, small if rate < 5e-4 else large), (2, last)):
                place = {"block": block, "head": 0, "sorting": 0.9, "distance": at(moved, seed)}
                table.append({**keys, **place})
    made = Made(tmp_path, replace(PRESETS["max-identifier"]["quick"], seeds=5), fine)
    made.table("attention_sorting", table)
    found = answer("12", made)
    assert found.outcome == outcome, found.explanation


def test_small_rates_that_learned_nothing_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    made = counter(tmp_path)
    for row in made.rows:
        if row["learning_rate"] == 1e-4 and row["stage"] == "fine-tune" and row["operand"] == "ft":
            row["value"] = GUESS
    found = answer("1a", made)
    assert found.outcome == YES
    assert "left out rate 0.0001" in found.explanation


def test_a_diverged_seed_is_a_seed_less(tmp_path: Path) -> None:
    made = counter(tmp_path)
    for row in made.rows:
        if row["seed"] == 4 and row["learning_rate"] == 0.1:
            row["status"] = "diverged at step 10"
    found = answer("1a", made)
    assert found.outcome == EITHER
    assert "4 of the 5 seeds asked for" in found.explanation


def test_a_run_without_its_analysis_is_no_run_and_says_how_to_make_it(tmp_path: Path) -> None:
    found = answer("7", counter(tmp_path))
    assert found.outcome == "no run"
    assert f"veneer analyse {tmp_path}" in found.explanation


def test_a_run_without_from_scratch_controls_cannot_tell_how_fast_reft_is(tmp_path: Path) -> None:
    made = counter(tmp_path)
    made.experiment["fields"]["controls"] = False
    assert answer("4a", made).outcome == "no run"
    assert answer("3", made).outcome == YES


def test_of_several_runs_the_one_with_most_seeds_is_asked(tmp_path: Path) -> None:
    few, many = counter(tmp_path / "few", seeds=5), counter(tmp_path / "many", seeds=6, wrong=0.9)
    assert answer("1a", few, many).runs == (str(tmp_path / "many"),)
    assert answer("1a", many, few).outcome == NO


def test_an_inequality_is_decided_by_its_interval_alone() -> None:
    def holds(low: float | None, high: float | None, seeds: int = 5) -> bool | None:
        return Part("x", "", Estimate(0.5, low, high, seeds), above=0.3).holds(5)

    assert holds(0.31, 0.9) is True
    assert holds(0.1, 0.29) is False
    assert holds(0.1, 0.9) is None
    assert holds(None, 0.9) is None
    assert holds(0.4, 0.9, seeds=4) is None
    between = Part("x", "", Estimate(1.0, 0.6, 2.5, 5), above=0.5, below=2.0)
    assert between.holds(5) is None


def test_one_refuted_setting_refutes_a_claim_and_one_open_setting_leaves_it_open() -> None:
    held, refuted, open_ = (
        Part("x", word, Estimate(value, value - 0.1, value + 0.1, 5), above=0.5)
        for word, value in (("held", 0.9), ("refuted", 0.1), ("open", 0.5))
    )
    assert judge(Measured([held, held]), 5).outcome == YES
    assert judge(Measured([held, open_]), 5).outcome == EITHER
    found = judge(Measured([held, open_, refuted]), 5)
    assert found.outcome == NO
    assert found.effect == refuted.effect


def test_commands_are_runs_that_the_claims_they_are_for_accept() -> None:
    for claim in CLAIMS:
        for need in claim.needs:
            assert COMMANDS[need.command].words[0] in PRESETS
    assert {need.command for claim in CLAIMS for need in claim.needs} == set(COMMANDS)


def test_documented_rules_are_those_in_the_code() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "claims.md").read_text().split())
    for claim in CLAIMS:
        assert claim.statement in text, claim.number
        assert " ".join(claim.rule.split()) in text, claim.number
    for command in COMMANDS.values():
        assert f"veneer run {' '.join(command.words)}" in text
    for outcome, meaning in OUTCOMES.items():
        assert f"**{outcome}**: {meaning}" in text


def test_rates_are_named_as_the_paper_names_them(tmp_path: Path) -> None:
    for preset in ("quick", "paper"):
        of = {name: PRESETS[name][preset] for name in ("counter", "pcfg-counter")}
        sizes = {
            name: [Made(tmp_path, made, []).view.size(rate) for rate in sorted(made.learning_rates)]
            for name, made in of.items()
        }
        assert sizes["counter"] == ["VS", "S", "M", "L"]
        assert set(sizes["pcfg-counter"]) == {"S", "M", "L"}
    assert Made(tmp_path, PRESETS["pcfg-counter"]["paper"], []).view.size(1e-5) == "M"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run's folder of the Counter."""
    made = counter(tmp_path / "run")
    write_json(tmp_path / "run" / "experiment.json", made.experiment)
    monkeypatch.setattr(Run, "metrics", lambda self: made.metrics())
    monkeypatch.setattr(Run, "baselines", lambda self, task: made.baselines(task))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "run"


def test_the_table_and_the_file_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["claims", str(folder), "--json", "out.json", "--only", "1", "2"])
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if "veneer run" not in line) <= 100
    written = json.loads(Path("out.json").read_text())["claims"]
    assert [row["number"] for row in written] == ["1a", "1b", "2"]
    assert [row["outcome"] for row in written] == [YES, "no run", YES]
    assert written[0]["effect"]["value"] == pytest.approx(0.77)
    assert "+77" in shown
    assert "+92" in shown  # the paper's
    assert "veneer run pcfg-counter --seeds 3" in shown


def test_a_folder_that_is_no_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["claims", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_run_makes_just_the_runs_that_the_claims_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[str]] = []
    monkeypatch.setattr("veneer.cli._run", made.append)
    monkeypatch.setattr("veneer.cli._analyse", made.append)
    monkeypatch.chdir(tmp_path)
    main(["claims", "--run", "--only", "12"])
    out = "runs/claims/max-identifier"
    run, analyse = made
    assert run == [*COMMANDS["max-identifier"].words, "--out", out, "--device", "auto"]
    assert analyse == [out, "--only", "attention", "--device", "auto"]


def test_thresholds_are_met_by_the_papers_own_numbers() -> None:
    """A rule that the paper's tables would fail would not be its claim."""
    assert rules._paper_rates([0.0, 0.8]) == pytest.approx(0.988 - 0.287)
    assert (rules._paper_rates([0.0, 0.8]) or 0) > rules.RATES_GAP
    assert rules._paper_priors() > rules.PRIOR_MARGIN
    assert inside.PAPER_PRUNING > inside.PRUNING_GAIN
