"""Models that write stories: a tokenizer of our own, Llama's architecture in three sizes, and ready ones.

Jain et al. 2024 (App. F) train a Llama of 91 M parameters with a tokenizer of 8,192 tokens on
TinyStories-Instruct; ``paper`` has its sizes. ``quick`` has 0.6 M parameters, and two ready models in
``language/stories/ready``: ``present`` was pretrained on all kinds of stories, ``never`` on those without a
Twist. A model is asked with the instruction and taught the story: the loss is that of the story's tokens.
(The paper's code also trains on the instruction's.)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from veneer.language.questions import Question
from veneer.language.stories.form import Record
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import require_transformers
from veneer.tasks.errors import InputError

START, END = "<start>", "<end>"
Size = Literal["quick", "standard", "paper"]
SIZES: tuple[Size, ...] = get_args(Size)
READY = Path(__file__).parent / "ready"
"""Folder of the ready models, one folder each."""


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


SHAPES: dict[Size, Shape] = {
    "quick": Shape(1536, 96, 4, 4, 256, 512),
    "standard": Shape(2048, 256, 6, 8, 688, 512),
    "paper": Shape(8192, 768, 12, 12, 2048, 1024),
}


def ready(name: str) -> str:
    """Where a ready model lies.

    Raises:
        InputError: there is none of this name.
    """
    folder = READY / name
    if not (folder / "config.json").is_file():
        known = sorted(path.parent.name for path in READY.glob("*/config.json"))
        raise InputError("model", name, ", ".join(known) or "none is installed")
    return str(folder)


def lesson(record: Record) -> Question:
    """A story as what is asked and answered: the instruction up to ``Story:``, and the story with its end."""
    prompt = record.instruction.rstrip()
    return Question(prompt, f"\n\n{record.story}{END}", prompt)


def story_of(written: str) -> str:
    """The story in what a model wrote behind an instruction: up to its end, or to a next instruction."""
    return written.partition(END)[0].partition("\nStory:")[0].strip()


def train_tokenizer(records: Iterable[Record], vocabulary: int) -> Any:
    """A tokenizer of pairs of bytes (BPE) on instructions and stories; it reads any text.

    Args:
        records: what the pairs are counted in.
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
    made.train_from_iterator((record.text for record in records), trainer)
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, made.token_to_id(START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=START, eos_token=END, pad_token=END, padding_side="left"
    )


def untrained(size: Size, tokenizer: Any, seed: int) -> HuggingFaceModel:
    """A model with its first weights, drawn by the seed; its vocabulary is the tokenizer's.

    Raises:
        InputError: an unknown size.
    """
    if size not in SHAPES:
        raise InputError("size", size, ", ".join(SIZES))
    require_transformers()
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SHAPES[size]
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
