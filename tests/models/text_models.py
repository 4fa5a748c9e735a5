"""Tiny random models of several families, made on the spot, with a tokenizer that splits at spaces."""

from pathlib import Path
from typing import Any

import torch

WORDS = 40
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32}
FAMILIES = ("gpt2", "gpt2 untied", "gpt_neox", "llama", "qwen2", "qwen3")


def make(family: str, vocabulary: int = WORDS, seed: int = 0, noise: float = 0.2, **more: Any) -> Any:
    """A random model of a family, every parameter off its usual start by noise."""
    import transformers as t

    own = {**SIZES, "vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, **more}
    wide = {"intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family.startswith("gpt2"):
            sizes = {"n_embd": own["hidden_size"], "n_layer": own["num_hidden_layers"]}
            config = t.GPT2Config(
                **sizes,
                n_head=own["num_attention_heads"],
                n_positions=own["max_position_embeddings"],
                vocab_size=vocabulary,
                bos_token_id=0,
                eos_token_id=0,
                tie_word_embeddings=family == "gpt2",
            )
            model = t.GPT2LMHeadModel(config)
        elif family == "gpt_neox":
            model = t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**{"intermediate_size": 24, **own}))
        elif family == "llama":
            model = t.LlamaForCausalLM(t.LlamaConfig(**{**wide, **own, "tie_word_embeddings": True}))
        elif family == "qwen2":
            model = t.Qwen2ForCausalLM(t.Qwen2Config(**{**wide, **own}))
        else:
            model = t.Qwen3ForCausalLM(t.Qwen3Config(**{**wide, **own}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
    return model.eval()


def tokenizer(words: list[str]) -> Any:
    """A tokenizer with one token a word; the first two ids fill up and end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    made = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def save(model: Any, folder: Path, words: list[str] | None = None) -> Path:
    """A folder as transformers writes it."""
    model.save_pretrained(folder)
    tokenizer(words or [f"w{i}" for i in range(WORDS - 3)]).save_pretrained(folder)
    return folder
