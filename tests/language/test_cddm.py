"""Trials are balanced, their answers right, and what is held out is never trained on."""

from collections import Counter

import pytest

from veneer.language.cddm import COHERENCES, TEMPLATES, TRAINED, UNSEEN, Trial, split_pairs, trials
from veneer.tasks.errors import InputError

TRIALS = list(trials(1600))


def test_the_answer_is_the_stronger_side_of_the_feature_that_counts() -> None:
    trial = Trial("motion", (62, 47), (10, 55))
    assert (trial.choice, trial.answer, trial.congruent) == ("left", " left", False)
    assert Trial("color", (62, 47), (10, 55)).choice == "right"
    assert trial.prompt == "Context: motion. Left: motion 62 color 10. Right: motion 47 color 55. Answer:"
    assert trial.variables == {
        "context": 0, "choice": 0, "motion": 0, "color": 1, "congruence": 0, "coherence": 1,
    }  # fmt: skip


def test_context_answer_and_congruence_are_balanced_in_every_eight() -> None:
    for start in range(0, len(TRIALS), 8):
        cells = {(t.context, t.choice, t.congruent) for t in TRIALS[start : start + 8]}
        assert len(cells) == 8


def test_nothing_but_the_rule_tells_the_answer() -> None:
    """The other feature, or the size of the numbers on one side, is right half of the time."""
    for name in ("motion", "color"):
        right = sum(trial.variables[name] == trial.variables["choice"] for trial in TRIALS)
        assert right / len(TRIALS) == 0.75  # its own context, and half of the other
    right = sum((sum(t.motion) > sum(t.color)) == (t.choice == "left") for t in TRIALS)
    assert abs(right / len(TRIALS) - 0.5) < 0.05
    shares = Counter(trial.variables["coherence"] for trial in TRIALS)
    assert all(abs(count / len(TRIALS) - 1 / 3) < 0.05 for count in shares.values())


def test_held_out_pairs_and_template_are_never_trained_on() -> None:
    kept = {pair for coherence in COHERENCES for pair in split_pairs(coherence)[1]}
    tested = list(trials(400, stream="evaluate", held_out=True, templates=UNSEEN))
    for trial in TRIALS:
        assert not {tuple(sorted(trial.motion)), tuple(sorted(trial.color))} & kept
        assert trial.template in TRAINED
    for trial in tested:
        assert {tuple(sorted(trial.motion)), tuple(sorted(trial.color))} <= kept
        assert trial.template in UNSEEN
    assert set(TRAINED) | set(UNSEEN) == set(TEMPLATES)
    for coherence in COHERENCES:
        train, held = split_pairs(coherence)
        assert len(held) / (len(train) + len(held)) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("context", ["motion", "color"])
def test_spans_say_where_the_words_stand(template: str, context: str) -> None:
    trial = Trial(context, (62, 47), (8, 53), template)  # pyright: ignore[reportArgumentType]
    words = {role: [trial.prompt[a:b] for a, b in ranges] for role, ranges in trial.spans().items()}
    assert words["context"] == [context]
    assert sorted(words["relevant"]) == sorted(str(value) for value in trial.relevant)
    assert len(words["irrelevant"]) == 2
    assert all(trial.prompt.count(word) == 1 for word in ("62", "47", "53"))


def test_trials_are_a_function_of_their_arguments() -> None:
    assert list(trials(20)) == TRIALS[:20]
    assert list(trials(20, seed=1)) != TRIALS[:20]
    assert list(trials(20, stream="evaluate")) != TRIALS[:20]


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="count"):
        next(trials(-1))
    with pytest.raises(InputError, match="templates"):
        next(trials(1, templates=()))
