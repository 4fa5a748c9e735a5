"""Encoding: a model's ids stand for the same values as the task's indices."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding, accuracy
from veneer.tasks.errors import InputError
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import Examples, Mixtures, fine_tuning

TASK = Counter("abcd", 5, 3)


@given(st.permutations(["BOS", "#", "d", "c", "b", "a", "unused"]), st.permutations([*range(9)]))
def test_values_survive_the_way_to_the_model_and_back(vocabulary: list, classes: list[int]) -> None:
    encoding = Encoding.between(TASK, vocabulary, classes, "BOS", "#", 2)
    examples = TASK.draw(torch.tensor([1, 2]), Mixtures([fine_tuning(0.5)] * 2), 20)
    batch = encoding.encode(examples)
    assert batch.tokens.shape == (2, 20, 6)
    for member in (0, 1):
        for i in range(20):
            spelled = [vocabulary[t] for t in batch.tokens[member, i].tolist()]
            letters = [*TASK.letters, "#"]
            assert spelled == ["BOS", *(letters[t] for t in examples.tokens[member, i].tolist())]
            counts = [spelled.count(TASK.operand_pt), spelled.count(TASK.operand_ft)]
            assert [classes[r] for r in batch.results[member, i].tolist()] == counts
            assert classes[int(batch.labels[member, i])] == counts[1]
    assert encoding.answer == 2


@pytest.mark.parametrize("missing", ["c", "#"])
def test_a_token_that_the_model_does_not_know_is_refused(missing: str) -> None:
    known = [token for token in ("BOS", "#", "a", "b", "c", "d") if token != missing]
    with pytest.raises(InputError) as refused:
        Encoding.between(TASK, known, [*range(9)], "BOS", "#", 2)
    assert (refused.value.field, refused.value.value) == ("token", missing)


def test_an_answer_that_the_model_cannot_give_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        Encoding.between(TASK, ["BOS", "#", *"abcd"], [*range(5)], "BOS", "#", 2)
    assert (refused.value.field, refused.value.value) == ("answer", 5)


def test_equal_values_of_other_types_are_other_answers() -> None:
    """For Python, True == 1 and 1.0 == 1; a program that answers True does not answer 1."""
    encoding = Encoding.between(TASK, ["BOS", "#", *"abcd"], [True, 1.0, *range(6)], "BOS", "#", 2)
    assert encoding.classes == (2, 3, 4, 5, 6, 7)
    with pytest.raises(InputError):
        Encoding.between(TASK, ["BOS", "#", *"abcd"], [0, True, 2, 3, 4, 5], "BOS", "#", 2)


def test_max_identifier_answers_are_letters_of_the_model() -> None:
    encoding = Encoding.between(
        MaxIdentifier("abc", 2, 1, 2, 2), ["#", *"cba", "BOS"], ["c", "b", "a"], "BOS", "#", 2
    )
    assert encoding.tokens == (3, 2, 1, 0)
    assert encoding.classes == (2, 1, 0)
    assert encoding.prefix == (4,)
    examples = Examples(
        torch.tensor([[[0, 2]]]), torch.tensor([[[0, 2]]]), torch.tensor([[2]]), torch.tensor([[2]])
    )
    batch = encoding.encode(examples)
    assert batch.tokens.tolist() == [[[4, 3, 1]]]
    assert batch.results.tolist() == [[[2, 0]]]
    assert batch.labels.tolist() == [[0]]


def test_accuracy_and_loss_against_a_count_by_hand() -> None:
    logits = torch.log(torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6], [0.5, 0.4, 0.1]]]))
    results = torch.tensor([[[0, 1], [0, 1]], [[2, 0], [0, 2]]])
    right, loss = accuracy(logits, results)
    assert right.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    by_hand = torch.tensor([[[0.7, 0.1], [0.2, 0.8]], [[0.6, 0.5], [0.2, 0.1]]], dtype=torch.float64).log()
    torch.testing.assert_close(loss, -by_hand.mean(-1), rtol=1e-6, atol=1e-6)
