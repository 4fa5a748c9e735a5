"""How many answers go through a model at once is no matter of what they score."""

import pytest

from tests.models.text_models import make, tokenizer
from veneer.language import metrics
from veneer.models.huggingface import HuggingFaceModel

WORDS = [f"w{i}" for i in range(30)]


def test_long_answers_are_read_by_few_and_score_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, reader = HuggingFaceModel(make("llama")), tokenizer(WORDS)
    pairs = [(" ".join(WORDS[: 1 + i % 5]), " ".join(WORDS[i : i + 1 + i % 7])) for i in range(20)]
    whole = metrics.answer_scores(model, reader, pairs)
    monkeypatch.setattr(metrics, "TOKENS", 24)
    for own, alone in zip(metrics.answer_scores(model, reader, pairs), whole, strict=True):
        assert own.right == alone.right
        assert own.log_probability == pytest.approx(alone.log_probability, abs=1e-5)


def test_a_batch_holds_so_many_answers_and_so_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "BATCH", 3)
    monkeypatch.setattr(metrics, "TOKENS", 20)
    lengths = [2, 3, 4, 5, 8, 9, 30, 1]
    batches = list(metrics._batches([0, 1, 2, 3, 4, 5, 7, 6], lengths))
    assert batches == [[0, 1, 2], [3, 4], [5, 7], [6]]
