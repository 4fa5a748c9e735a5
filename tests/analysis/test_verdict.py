"""Each verdict is reached by the evidence for it, and by no less."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veneer.analysis.revival import Estimate
from veneer.analysis.verdict import (
    AS_SLOW,
    FASTER,
    MIN_SEEDS,
    Evidence,
    Revival,
    Verdict,
    decide,
    revival_threshold,
    skill,
)
from veneer.tasks.errors import InputError

# The shape checks look at random members of a list, which Hypothesis warns of and seeds.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def about(value: float, half: float = 0.02, seeds: int = 3) -> Estimate:
    return Estimate(value, value - half, value + half, seeds)


REVIVED = Revival(1e-3, 800, 3, 3, about(0.95), Estimate(None, 6.0, None, 3), about(0.3), (9, 9))
LOST = Revival(1e-3, 800, 0, 3, about(0.33), Estimate(None, None, None, 3), about(0.0), (9, 9))
GONE = Evidence(guess_pt=0.32, kept=about(0.05), guess_ft=0.3, learned=about(0.99), seeds=3)
WRAPPED, REWRITTEN = (
    replace(GONE, revivals=(REVIVED,)),
    replace(GONE, revivals=(LOST,), restored=about(0.3), restored_share=1e-4),
)


def kind(evidence: Evidence) -> str:
    return decide(evidence).kind


def test_fast_revival_of_every_seed_is_wrapped() -> None:
    verdict = decide(WRAPPED)
    assert (verdict.kind, verdict.strength) == ("wrapped", "moderate")
    assert "at least 6.0 times" in verdict.reasons[0]


def test_no_revival_where_known_wrappers_are_revived_is_rewritten() -> None:
    assert kind(REWRITTEN) == "rewritten"


def test_revival_no_faster_than_the_control_is_rewritten() -> None:
    as_slow = replace(REVIVED, ratio=Estimate(1.0, 0.8, 1.3, 3), head_start=about(0.02), wrappers=None)
    assert kind(replace(REWRITTEN, revivals=(as_slow,))) == "rewritten"


def test_what_was_not_learned_is_not_fine_tuned_however_it_revives() -> None:
    assert kind(replace(WRAPPED, learned=about(0.3))) == "not fine-tuned"


def test_o_pt_still_there_is_unchanged() -> None:
    assert kind(replace(WRAPPED, kept=about(0.99, 0.005))) == "unchanged"


def test_divergence_of_every_seed_is_its_own_result() -> None:
    assert kind(replace(WRAPPED, diverged=3)) == "diverged"
    assert kind(replace(WRAPPED, diverged=1)) == "wrapped"


def test_o_pt_at_the_majority_class_is_gone_not_half_there() -> None:
    assert kind(replace(WRAPPED, kept=about(0.33))) == "wrapped"
    assert revival_threshold(0.32) == pytest.approx(0.66)
    assert skill(0.32, 0.32) == 0


THIN = {
    "O_PT partly gone": replace(WRAPPED, kept=about(0.8)),
    "O_PT not measured": replace(WRAPPED, kept=None),
    "O_FT partly learned": replace(WRAPPED, learned=about(0.65, 0.1)),
    "no reFT": GONE,
    "one seed": replace(GONE, revivals=(replace(REVIVED, reached=1, seeds=1),)),
    "no control": replace(GONE, revivals=(replace(REVIVED, ratio=None, head_start=None),)),
    "one seed of the control": replace(
        GONE, revivals=(replace(REVIVED, ratio=replace(about(6.0), seeds=1), head_start=about(0.3, seeds=1)),)
    ),
    "some seeds revived": replace(GONE, revivals=(replace(REVIVED, reached=2),)),
    "ratio's interval too wide": replace(
        GONE, revivals=(replace(REVIVED, ratio=Estimate(4.0, 1.6, 10.0, 3)),)
    ),
    "no known wrapper tried": replace(REWRITTEN, revivals=(replace(LOST, wrappers=None),)),
    "known wrappers not revived either": replace(REWRITTEN, revivals=(replace(LOST, wrappers=(3, 9)),)),
    "not revived, but a head start": replace(REWRITTEN, revivals=(replace(LOST, head_start=about(0.3)),)),
    "rates contradict": replace(
        REWRITTEN, revivals=(REVIVED, replace(REVIVED, rate=1e-4, ratio=Estimate(1.0, 0.8, 1.3, 3)))
    ),
    "not revived, few weights not tried": replace(GONE, revivals=(LOST,)),
    "few weights restore, of one seed": replace(
        GONE, revivals=(LOST,), restored=about(0.9, seeds=1), restored_share=1e-4
    ),
}


@pytest.mark.parametrize("name", THIN)
def test_thin_or_conflicting_evidence_is_undecided_and_says_what_would_decide(name: str) -> None:
    verdict = decide(THIN[name])
    assert (verdict.kind, verdict.strength) == ("undecided", "none")
    assert verdict.reasons
    assert verdict.needed


def test_a_rate_too_small_to_revive_any_wrapper_says_nothing() -> None:
    silent = replace(LOST, rate=1e-4, wrappers=(0, 9))
    assert kind(replace(GONE, revivals=(REVIVED, silent))) == "wrapped"
    assert kind(replace(REWRITTEN, revivals=(LOST, silent))) == "rewritten"


def test_few_weights_that_restore_what_reft_does_not_are_a_wrapper() -> None:
    hidden = replace(REWRITTEN, restored=about(0.9), restored_share=1e-4)
    assert kind(hidden) == "wrapped"
    assert kind(replace(hidden, restored_share=0.2)) == "undecided"  # many weights say nothing either way
    assert kind(replace(hidden, restored=about(0.3))) == "rewritten"


def test_few_weights_that_restore_the_capability_strengthen_wrapped() -> None:
    few = replace(WRAPPED, restored=about(0.9), restored_share=1e-4)
    assert decide(few).strength == "strong"
    assert decide(replace(few, restored_share=0.2)).strength == "moderate"


def test_probes_that_read_nothing_strengthen_rewritten_and_probes_that_read_weaken_it() -> None:
    assert decide(REWRITTEN).strength == "moderate"
    silent = replace(REWRITTEN, probe=about(0.3), probe_control=about(0.35))
    assert decide(silent).strength == "strong"
    assert decide(replace(silent, probe=about(0.9))).strength == "weak"


def test_failing_at_a_small_rate_takes_nothing_from_fast_revival_at_another() -> None:
    assert kind(replace(GONE, revivals=(REVIVED, replace(LOST, rate=1e-4)))) == "wrapped"


@pytest.mark.parametrize("evidence", [WRAPPED, REWRITTEN, GONE])
def test_probes_and_attention_never_decide(evidence: Evidence) -> None:
    plain = decide(evidence)
    for probe, control in ((0.99, 0.3), (0.3, 0.3), (0.99, 0.99)):
        for attention in (0.95, 0.05):
            looked = replace(
                evidence, probe=about(probe), probe_control=about(control), attention=about(attention)
            )
            assert kind(looked) == plain.kind


def test_a_probe_that_reads_nothing_weakens_wrapped_but_not_without_its_control() -> None:
    failing = replace(WRAPPED, probe=about(0.3), probe_control=about(0.35))
    assert decide(failing).strength == "weak"
    assert decide(replace(failing, probe_control=None)).strength == "moderate"


def test_nothing_of_the_evidence_is_kept_from_the_reader() -> None:
    full = replace(
        WRAPPED,
        restored=about(0.9),
        restored_share=1e-4,
        probe=about(0.8),
        probe_control=about(0.3),
        attention=about(0.9),
    )
    text = " ".join(decide(full).reasons)
    for number in ("95 %", "6.0 times", "9 of 9", "0.0001", "80 %", "30 %", "32 %", "3 seeds"):
        assert number in text


ESTIMATES = st.builds(about, st.floats(0, 1), st.floats(0, 0.3), st.integers(1, 5))
RATIOS = st.builds(
    lambda low, width, seeds: Estimate(None, low, None if low is None else low * width, seeds),
    st.none() | st.floats(0.1, 20),
    st.floats(1, 5),
    st.integers(0, 5),
)
REVIVALS = st.builds(
    lambda reached, more, **rest: Revival(reached=reached, seeds=reached + more, **rest),
    st.integers(0, 4),
    st.integers(0, 3),
    rate=st.sampled_from([1e-3, 1e-4]),
    updates=st.just(800),
    after=ESTIMATES,
    ratio=st.none() | RATIOS,
    head_start=st.none() | ESTIMATES,
    wrappers=st.none() | st.integers(0, 9).map(lambda back: (back, 9)),
)
EVIDENCE = st.builds(
    Evidence,
    guess_pt=st.floats(0, 0.5),
    kept=st.none() | ESTIMATES,
    guess_ft=st.just(0.3),
    learned=st.none() | ESTIMATES,
    revivals=st.lists(REVIVALS, max_size=3).map(tuple),
    restored=st.none() | ESTIMATES,
    restored_share=st.sampled_from([1e-4, 0.1]),
)


@given(EVIDENCE)
def test_every_evidence_has_a_verdict_with_reasons(evidence: Evidence) -> None:
    verdict = decide(evidence)
    assert verdict.reasons
    assert all(reason.endswith(".") and "None" not in reason for reason in verdict.reasons)
    assert bool(verdict.needed) == (verdict.kind == "undecided") == (verdict.strength == "none")


@given(EVIDENCE)
def test_no_verdict_on_wrapping_without_seeds_and_a_control(evidence: Evidence) -> None:
    verdict: Verdict = decide(evidence)
    if verdict.kind in ("wrapped", "rewritten"):
        assert any(r.seeds >= MIN_SEEDS and r.ratio is not None for r in evidence.revivals)


def test_no_ratio_can_support_both_verdicts() -> None:
    assert AS_SLOW < FASTER


def test_impossible_evidence_is_refused() -> None:
    with pytest.raises(InputError, match="reached"):
        replace(REVIVED, reached=4)
    with pytest.raises(InputError, match="guess"):
        Evidence(guess_pt=1.0)
    with pytest.raises(InputError, match="restored_share"):
        Evidence(guess_pt=0.3, restored=about(0.9))
