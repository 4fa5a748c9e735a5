"""Each verdict is reached by the evidence for it, and by no less."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veneer.analysis.evidence import MIN_SEEDS, Evidence, Revival, Rival, more_seeds, revival_threshold, skill
from veneer.analysis.revival import Estimate
from veneer.analysis.verdict import (
    DECIDED,
    FASTER,
    RULE_VERSION,
    Verdict,
    decide,
    read_revival,
)
from veneer.tasks.errors import InputError

# The shape checks look at random members of a list, which Hypothesis warns of and seeds.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def about(value: float, half: float = 0.02, seeds: int = 3) -> Estimate:
    return Estimate(value, value - half, value + half, seeds)


def rival(
    name: str = "a third operand",
    reached: int = 3,
    low: float | None = None,
    high: float | None = None,
    lead: float = 0.0,
    seeds: int = 3,
) -> Rival:
    value = None if low is None or high is None else (low * high) ** 0.5
    return Rival(
        name, reached, seeds, Estimate(value, low, high, seeds), (low, high), about(lead, seeds=seeds)
    )


BACK = Revival(
    1e-3, 800, 3, 3, about(0.95), 100.0, rival(reached=0, low=6.0, lead=0.3), rival("Scr.", low=1.5, high=4.0)
)
AS_SLOW_AS_A_THIRD = Revival(
    1e-2, 800, 3, 3, about(0.9), 500.0, rival(low=0.8, high=1.2), rival("Scr.", low=0.3, high=0.5)
)
NEITHER = Revival(1e-3, 800, 0, 3, about(0.4), None, rival(reached=0), rival("Scr.", reached=3, high=0.6))


def both_rates(revival: Revival) -> tuple[Revival, Revival]:
    """Known wrappers aside, one rate of reFT alone shows nothing to be gone."""
    return revival, replace(revival, rate=revival.rate / 10)


GONE = Evidence(guess_pt=0.32, kept=about(0.05), guess_ft=0.3, learned=about(0.99), seeds=3)
WRAPPED = replace(GONE, revivals=(BACK,))
REWRITTEN = replace(GONE, revivals=both_rates(AS_SLOW_AS_A_THIRD), restored=about(0.3), restored_share=1e-4)
FROZEN = replace(GONE, revivals=both_rates(NEITHER))


def kind(evidence: Evidence) -> str:
    return decide(evidence).kind


def with_revival(evidence: Evidence, **changes: object) -> Evidence:
    return replace(evidence, revivals=tuple(replace(one, **changes) for one in evidence.revivals))


def test_back_sooner_than_a_third_operand_and_than_from_scratch_is_wrapped() -> None:
    verdict = decide(WRAPPED)
    assert (verdict.kind, verdict.strength) == ("wrapped", "moderate")
    assert "after 100 updates" in verdict.reasons[0]
    assert "a third operand takes at least 6.0 times as many" in verdict.reasons[0]


def test_back_no_sooner_than_a_third_operand_is_rewritten() -> None:
    assert kind(REWRITTEN) == "rewritten"


def test_a_third_operand_that_is_learned_where_o_pt_is_not_makes_rewritten() -> None:
    gone = replace(AS_SLOW_AS_A_THIRD, reached=0, time=None, third=rival(low=None, high=0.7))
    assert kind(replace(REWRITTEN, revivals=both_rates(gone))) == "rewritten"


def test_a_model_that_learns_nothing_any_more_is_frozen_and_not_rewritten() -> None:
    """The control within the model tells "gone" from "can no longer be trained"."""
    assert kind(FROZEN) == "frozen"
    learned = with_revival(FROZEN, third=rival(reached=3, high=0.6))
    assert kind(learned) == "rewritten"


def test_where_not_even_a_fresh_model_gets_there_the_budget_is_too_small() -> None:
    verdict = decide(with_revival(FROZEN, scratch=rival("Scr.", reached=0)))
    assert verdict.kind == "mixed evidence"
    assert verdict.leaning is None
    assert "a longer reFT" in verdict.needed[0]


def test_sooner_than_a_third_operand_but_not_than_from_scratch_is_not_yet_wrapped() -> None:
    slower = with_revival(WRAPPED, scratch=rival("Scr.", low=0.5, high=0.9))
    assert decide(slower).kind == "mixed evidence"
    wide = with_revival(WRAPPED, scratch=rival("Scr.", low=0.9, high=9.0))
    assert kind(wide) in ("too few seeds", "mixed evidence")


def test_a_rival_that_never_gets_there_is_beaten_by_how_far_o_pt_is_ahead() -> None:
    """The budget limits its ratio: after 400 of 600 updates, nothing can be shown to take twice as many."""
    late = Revival(
        1e-3, 600, 3, 3, about(0.9), 400.0, rival(reached=0, low=1.2), rival("Scr.", reached=0, low=1.2)
    )
    third = rival(reached=0, low=1.2, lead=0.3)
    ahead = replace(late, third=third, scratch=rival("Scr.", reached=0, lead=0.2))
    assert kind(replace(GONE, revivals=(ahead,))) == "wrapped"
    assert read_revival(late) == "unclear"
    one_learned = replace(ahead, third=replace(third, reached=1))
    assert read_revival(one_learned) == "unclear"
    assert read_revival(replace(ahead, reached=2)) == "unclear"


def test_o_pt_that_leads_and_stops_short_is_not_called_slower() -> None:
    short = replace(AS_SLOW_AS_A_THIRD, reached=1, time=None, third=rival(high=1.8, lead=0.14))
    assert read_revival(short) == "unclear"
    assert read_revival(replace(short, third=rival(high=1.8, lead=0.02))) == "no sooner"


def test_one_rate_shows_nothing_to_be_gone_unless_it_shows_known_wrappers() -> None:
    """A rate that breaks what is hidden brings it back no sooner than something new."""
    alone = replace(REWRITTEN, revivals=(AS_SLOW_AS_A_THIRD,))
    assert (kind(alone), decide(alone).leaning) == ("mixed evidence", "rewritten")
    assert "second rate" in decide(alone).needed[0]
    assert kind(with_revival(alone, wrappers=(8, 9))) == "rewritten"
    blind = replace(AS_SLOW_AS_A_THIRD, wrappers=(1, 9))
    seen = replace(NEITHER, wrappers=(9, 9))
    assert kind(replace(REWRITTEN, revivals=(blind, seen))) == "rewritten", (
        "trained at one, told by the other"
    )
    assert kind(replace(REWRITTEN, revivals=(blind, blind))) == "mixed evidence"


def test_what_few_weights_may_hide_is_not_yet_rewritten() -> None:
    before = replace(REWRITTEN, restored=None, restored_share=None, unsearched=True)
    assert (kind(before), decide(before).leaning) == ("mixed evidence", "rewritten")
    assert "veneer analyse" in decide(before).needed[0]
    assert kind(replace(before, unsearched=False)) == "rewritten"


def test_one_border_parts_sooner_from_no_sooner() -> None:
    def between(low: float, high: float) -> Rival:
        return replace(rival(low=low, high=high), lead=about(0.02, 0.1))

    assert read_revival(replace(AS_SLOW_AS_A_THIRD, third=between(0.6, 1.9))) == "no sooner"
    assert read_revival(replace(AS_SLOW_AS_A_THIRD, third=between(0.6, 2.1))) == "unclear"


def test_without_a_third_operand_scratch_has_to_be_beaten_clearly() -> None:
    assert kind(with_revival(WRAPPED, third=None, scratch=rival("Scr.", low=1.5, high=4.0))) != "wrapped"
    assert kind(with_revival(WRAPPED, third=None, scratch=rival("Scr.", low=2.5, high=4.0))) == "wrapped"


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


ONE_SEED = {
    "wrapped": with_revival(
        replace(WRAPPED, seeds=1, kept=Estimate(0.05, None, None, 1), learned=Estimate(0.99, None, None, 1)),
        reached=1,
        seeds=1,
        third=replace(rival(reached=0, low=6.0, seeds=1), ratio=Estimate(None, None, None, 1)),
        scratch=replace(
            rival("Scr.", reached=1, low=3.0, high=3.0, seeds=1), ratio=Estimate(3.0, None, None, 1)
        ),
    ),
    "not fine-tuned": replace(WRAPPED, seeds=1, learned=Estimate(0.3, None, None, 1)),
    "unchanged": replace(WRAPPED, seeds=2, kept=about(0.99, 0.005, seeds=2)),
    "diverged": replace(GONE, seeds=1, diverged=1),
}


@pytest.mark.parametrize("leaning", ONE_SEED)
def test_no_word_without_three_seeds_but_a_leaning(leaning: str) -> None:
    verdict = decide(ONE_SEED[leaning])
    assert (verdict.kind, verdict.leaning, verdict.strength) == ("too few seeds", leaning, "none")
    assert verdict.needed == (f"{MIN_SEEDS} seeds",)
    assert verdict.reasons


def test_means_that_point_one_way_behind_wide_intervals_are_too_few_seeds() -> None:
    wide = replace(rival(reached=3, low=1.2, high=30.0), bounds=(6.0, 6.0))
    verdict = decide(with_revival(WRAPPED, third=wide))
    assert (verdict.kind, verdict.leaning) == ("too few seeds", "wrapped")
    assert verdict.needed == ("9 seeds",)


@pytest.mark.parametrize(
    ("have", "found", "wanted"),
    [(1, 1, 3), (3, 3, 9), (4, 4, 9), (9, 9, 18), (12, 12, 24), (9, 2, 9), (9, 8, 9)],
)
def test_more_seeds_are_others_than_those_that_are_there(have: int, found: int, wanted: int) -> None:
    assert more_seeds(have, found) == wanted


MIXED = {
    "O_PT partly gone": replace(WRAPPED, kept=about(0.8)),
    "O_PT not measured": replace(WRAPPED, kept=None),
    "no reFT": GONE,
    "nothing to hold it against": with_revival(WRAPPED, third=None, scratch=None),
    "known wrappers not revived either": with_revival(REWRITTEN, wrappers=(3, 9)),
    "neither gets there, but O_PT is ahead": with_revival(FROZEN, third=rival(reached=0, lead=0.3)),
}


@pytest.mark.parametrize("name", MIXED)
def test_missing_or_conflicting_evidence_is_mixed_and_says_what_would_decide(name: str) -> None:
    verdict = decide(MIXED[name])
    assert (verdict.kind, verdict.strength) == ("mixed evidence", "none")
    assert verdict.reasons
    assert verdict.needed


def test_no_sooner_at_one_rate_weakens_sooner_at_another() -> None:
    both = replace(WRAPPED, revivals=(BACK, AS_SLOW_AS_A_THIRD))
    assert (decide(both).kind, decide(both).strength) == ("wrapped", "weak")


def test_a_rate_that_leans_to_sooner_keeps_another_from_rewritten() -> None:
    leaning = replace(BACK, third=replace(rival(reached=3, low=1.2, high=30.0), bounds=(6.0, 6.0)))
    assert kind(replace(REWRITTEN, revivals=(leaning, AS_SLOW_AS_A_THIRD))) == "mixed evidence"


def test_frozen_at_a_small_rate_takes_nothing_from_a_rate_that_trains() -> None:
    assert kind(replace(REWRITTEN, revivals=(NEITHER, AS_SLOW_AS_A_THIRD))) == "rewritten"


def test_few_weights_that_restore_what_reft_does_not_are_a_wrapper() -> None:
    hidden = replace(REWRITTEN, restored=about(0.9), restored_share=1e-4)
    assert kind(hidden) == "wrapped"
    assert kind(replace(hidden, restored_share=0.2)) == "rewritten", "many weights are no wrapper"


def test_a_search_that_finds_nothing_is_no_evidence_but_not_to_have_looked_is_weak() -> None:
    assert decide(REWRITTEN).strength == "moderate"
    unsearched = replace(REWRITTEN, restored=None, restored_share=None)
    assert (decide(unsearched).kind, decide(unsearched).strength) == ("rewritten", "weak")
    assert kind(replace(FROZEN, restored=about(0.3), restored_share=1e-4)) == "frozen"


def test_few_weights_that_restore_the_capability_strengthen_wrapped() -> None:
    few = replace(WRAPPED, restored=about(0.9), restored_share=1e-4)
    assert decide(few).strength == "strong"
    assert decide(replace(few, restored_share=0.2)).strength == "moderate"


def test_probes_that_read_nothing_strengthen_rewritten_and_probes_that_read_weaken_it() -> None:
    silent = replace(REWRITTEN, probe=about(0.3), probe_control=about(0.35))
    assert decide(silent).strength == "strong"
    assert decide(replace(silent, probe=about(0.9))).strength == "weak"


@pytest.mark.parametrize("evidence", [WRAPPED, REWRITTEN, FROZEN, GONE])
def test_probes_and_attention_never_decide(evidence: Evidence) -> None:
    plain = decide(evidence)
    for probe, control in ((0.99, 0.3), (0.3, 0.3), (0.99, 0.99)):
        for attention in (0.95, 0.05):
            looked = replace(
                evidence, probe=about(probe), probe_control=about(control), attention=about(attention)
            )
            assert kind(looked) == plain.kind


def test_nothing_of_the_evidence_is_kept_from_the_reader() -> None:
    full = replace(
        with_revival(WRAPPED, wrappers=(9, 9)),
        restored=about(0.9),
        restored_share=1e-4,
        probe=about(0.8),
        probe_control=about(0.3),
        attention=about(0.9),
    )
    text = " ".join(decide(full).reasons)
    for number in ("100 updates", "6.0 times", "9 of 9", "0.0001", "80 %", "30 %", "32 %", "3 seeds", "Scr."):
        assert number in text


ESTIMATES = st.builds(about, st.floats(0, 1), st.floats(0, 0.3), st.integers(1, 5))
RIVALS = st.builds(
    lambda reached, more, low, width, lead: replace(
        rival(reached=reached, low=low, high=None if low is None else low * width, seeds=reached + more),
        lead=lead,
    ),
    st.integers(0, 4),
    st.integers(0, 3),
    st.none() | st.floats(0.1, 20),
    st.floats(1, 5),
    ESTIMATES,
)
REVIVALS = st.builds(
    lambda reached, more, **rest: Revival(reached=reached, seeds=reached + more, **rest),
    st.integers(0, 4),
    st.integers(0, 3),
    rate=st.sampled_from([1e-3, 1e-4]),
    updates=st.just(800),
    after=ESTIMATES,
    time=st.none() | st.floats(1, 800),
    third=st.none() | RIVALS,
    scratch=st.none() | RIVALS,
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
    seeds=st.integers(1, 9),
)


@given(EVIDENCE)
def test_every_evidence_has_a_verdict_with_reasons(evidence: Evidence) -> None:
    verdict: Verdict = decide(evidence)
    assert verdict.reasons
    assert all(reason.endswith(".") and "None" not in reason for reason in verdict.reasons)
    assert bool(verdict.needed) == (verdict.kind not in DECIDED) == (verdict.strength == "none")
    assert verdict.kind in DECIDED or verdict.kind in ("too few seeds", "mixed evidence")
    assert verdict.leaning is None or verdict.leaning in DECIDED


@given(EVIDENCE)
def test_no_verdict_without_seeds(evidence: Evidence) -> None:
    if evidence.seeds < MIN_SEEDS:
        assert decide(evidence).kind not in DECIDED


@given(REVIVALS)
def test_nothing_is_both_sooner_and_no_sooner(revival: Revival) -> None:
    """Of ratios that a rival has, one side of the border excludes the other."""
    if read_revival(revival) == "sooner":
        for one in revival.rivals:
            if one.reached:
                assert one.ratio.low is not None
                assert one.ratio.low > 1
    if read_revival(revival) == "no sooner" and revival.third and revival.third.ratio.low is not None:
        assert revival.third.ratio.low < FASTER


def test_the_rule_has_a_version_and_a_date() -> None:
    assert "2026" in RULE_VERSION


def test_impossible_evidence_is_refused() -> None:
    with pytest.raises(InputError, match="reached"):
        replace(BACK, reached=4)
    with pytest.raises(InputError, match="reached"):
        rival(reached=4)
    with pytest.raises(InputError, match="guess"):
        Evidence(guess_pt=1.0)
    with pytest.raises(InputError, match="restored_share"):
        Evidence(guess_pt=0.3, restored=about(0.9))
