"""What a text model of our own begins with: a tokenizer counted on texts, and a Llama's weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import require_transformers
from veneer.tasks.errors import InputError

START, END = "<start>", "<end>"


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        vocabulary: tokens.
        width: of the residual stream.
        blocks: how many.
        heads: attention heads of a block.
        hidden: width of the MLP.
        positions: longest text in tokens.
    """

    vocabulary: int
    width: int
    blocks: int
    heads: int
    hidden: int
    positions: int


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A tokenizer of pairs of bytes (BPE) on texts; it reads any other, too.

    Args:
        texts: what the pairs are counted in.
        vocabulary: tokens in all; 256 are single bytes and two mark start and end.

    Raises:
        InputError: too few tokens for the single bytes.
    """
    require_transformers()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < 258:
        raise InputError("vocabulary", vocabulary, "258 or more: single bytes, start and end")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, made.token_to_id(START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=START, eos_token=END, pad_token=END, padding_side="left"
    )


def fresh_llama(shape: Shape, tokenizer: Any, seed: int) -> HuggingFaceModel:
    """A model with its first weights, drawn by the seed; its vocabulary is the tokenizer's."""
    require_transformers()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HuggingFaceModel(LlamaForCausalLM(config))
