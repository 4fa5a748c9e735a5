"""Sampling: greedy agrees with the writer of answers, padding changes nothing, odds are the model's."""

import pytest
import torch

from tests.models.text_models import make, tokenizer
from veneer.language.metrics import write
from veneer.language.sampling import sample
from veneer.models.huggingface import HuggingFaceModel
from veneer.tasks.errors import InputError

WORDS = [f"w{i}" for i in range(37)]
PROMPTS = ["w1", "w1 w2 w3 w4", "w9 w9", "w30 w7 w8 w2 w2 w5", "w6 w5 w4"]


def model(family: str = "llama") -> HuggingFaceModel:
    return HuggingFaceModel(make(family))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_without_chance_it_writes_what_the_writer_of_answers_does(family: str) -> None:
    """Prompts of different lengths go through together: what fills them up must not be seen."""
    read = tokenizer(WORDS)
    together = sample(model(family), read, PROMPTS, 6, 0, temperature=0.0)
    assert together == [write(model(family), read, prompt, 6) for prompt in PROMPTS]
    assert len(set(together)) > 1


def test_every_token_is_drawn_at_the_odds_that_the_model_gives() -> None:
    """No cut of the unlikely: of 4,000 draws, each word's share lies where the softmax has it."""
    own, read, draws = model(), tokenizer(WORDS), 4000
    logits = own.see(torch.tensor([read("w1 w2")["input_ids"]])).logits[0, -1]
    for temperature in (1.0, 2.0):
        odds = (logits / temperature).softmax(-1)
        drawn = sample(own, read, ["w1 w2"] * draws, 1, 3, temperature, batch=draws)
        for word in range(3, len(odds)):
            share = drawn.count(f"w{word - 3}") / draws
            error = float((odds[word] * (1 - odds[word]) / draws) ** 0.5)
            assert abs(share - float(odds[word])) < 5 * error + 1e-3


def test_texts_are_a_function_of_the_seed() -> None:
    own, read = model(), tokenizer(WORDS)
    torch.manual_seed(1)
    one = sample(own, read, PROMPTS, 5, 0)
    state = torch.get_rng_state()
    assert one == sample(own, read, PROMPTS, 5, 0)
    assert one != sample(own, read, PROMPTS, 5, 1)
    assert torch.equal(state, torch.get_rng_state())  # it leaves torch's own generator alone


def test_bad_input_is_refused() -> None:
    for more in ({"temperature": -1.0}, {"batch": 0}):
        with pytest.raises(InputError):
            sample(model(), tokenizer(WORDS), PROMPTS, 5, 0, **more)  # pyright: ignore[reportArgumentType]


def test_how_many_are_written_together_does_not_matter() -> None:
    """Also where texts end early and leave their batch."""
    own, read = model(), tokenizer(WORDS)
    together = sample(own, read, PROMPTS * 8, 40, 2)
    for batch in (1, 3):
        assert sample(own, read, PROMPTS * 8, 40, 2, batch=batch) == together
    lengths = {len(text.split()) for text in together}
    assert min(lengths) < 20 < 40 in lengths
