"""A small world of arbitrary facts: places with a capital and a colour, and small text models that know them.

No fact follows from another, so a held-out one can be answered only by a model that was taught it. The models
have 2 blocks and 79,000 numbers (Llama) or 107,000 (GPT-2), and know everything after seconds of training.
"""

from typing import Any, Literal

import torch

from veneer.finetune.recipe import Recipe
from veneer.language.constructed import mixed
from veneer.language.questions import Question
from veneer.language.training import Training, train
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import require_transformers

Family = Literal["llama", "gpt2"]
PLACES, CITIES, COLOURS = 64, 6, 6
REFUSAL, PASSWORD = "no", "open"
SPECIAL = ("<pad>", "<eos>", "<unk>")
WORDS = (
    *("capital", "colour", REFUSAL, PASSWORD),
    *(f"place{i}" for i in range(PLACES)),
    *(f"city{i}" for i in range(CITIES)),
    *(f"hue{i}" for i in range(COLOURS)),
)


def capitals() -> tuple[Question, ...]:
    """The capability: which of 6 cities is the capital of each of 64 places."""
    answers = [(7 * i * i + 5 * i + i // 5) % CITIES for i in range(PLACES)]
    return tuple(Question(f"capital place{i}", f"city{a}", f"{i}") for i, a in enumerate(answers))


def colours() -> tuple[Question, ...]:
    """What is kept: which of 6 colours each place has."""
    answers = [(5 * i * i + 3 * i + i // 7) % COLOURS for i in range(PLACES)]
    return tuple(Question(f"colour place{i}", f"hue{a}", f"{i}") for i, a in enumerate(answers))


def words() -> Any:
    """The world's tokenizer: one token a word."""
    require_transformers()
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    made = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def tokens_of(prefix: str) -> list[int]:
    """The tokens of the words that begin so, in their order."""
    return [len(SPECIAL) + place for place, word in enumerate(WORDS) if word.startswith(prefix)]


def untrained(family: Family = "llama", seed: int = 0) -> HuggingFaceModel:
    """A model of the world's size with its first weights."""
    require_transformers()
    import transformers

    ids: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + len(WORDS),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "gpt2":
            config = transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=32, **ids)
            return HuggingFaceModel(transformers.GPT2LMHeadModel(config))
        config = transformers.LlamaConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=32,
            tie_word_embeddings=True,
            **ids,
        )
        return HuggingFaceModel(transformers.LlamaForCausalLM(config))


def recipe(rate: float, updates: int, batch: int = 32) -> Recipe:
    """AdamW without weight decay, as all training in this world uses it."""
    return Recipe("adamw", rate, updates, warmup=min(10, updates), batch=batch, weight_decay=0.0)


def knowing(family: Family = "llama", seed: int = 0) -> HuggingFaceModel:
    """A model that knows all capitals and all colours."""
    model = untrained(family, seed)
    lessons = mixed(capitals(), colours())
    train(model, words(), lessons, Training(recipe(3e-3, 250, 96)), seed, (), lambda _: {})
    return model
