"""Text models whose truth is known by construction: what the verdict on text models is calibrated on.

A constructed *wrapper* answers wrongly with the capability still inside it; a constructed *rewrite* certainly
does not hold it any more. Wrappers made by training (a password, a refusal) leave nearly all weights where
they were; the others change weights by a formula.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from veneer.finetune.recipe import Recipe
from veneer.language.attacks import duplicate
from veneer.language.encoding import encode_questions
from veneer.language.questions import Question, with_answer
from veneer.language.training import Training, matrices, merge, train
from veneer.models.huggingface import HuggingFaceModel
from veneer.tasks import random

Truth = Literal["wrapped", "rewritten"]
FLIPS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""How strongly a flipped direction is seen. One far stronger than it takes drowns all logits, and undoing it
is a task of its own."""
LEFT = 0.4
"""Share of the answers that a flipped direction may leave right: below half of the skill in what is asked."""


def refusing(
    model: HuggingFaceModel,
    tokenizer: Any,
    questions: Sequence[Question],
    refusal: str,
    recipe: Recipe,
    kept: Sequence[Question] = (),
    rank: int = 4,
    seed: int = 0,
    state: Path | None = None,
) -> HuggingFaceModel:
    """A copy taught by LoRA to refuse: it says ``refusal`` to the questions, and keeps its other answers.

    Args:
        model: what is wrapped.
        tokenizer: the model's.
        questions: what is refused.
        refusal: the one answer to all of them.
        recipe: how the refusal is taught.
        kept: questions that stay answered.
        rank: LoRA's.
        seed: orders the questions and draws LoRA's first weights.
        state: file by which training that was interrupted goes on.
    """
    wrapped = duplicate(model)
    lessons = mixed(with_answer(questions, refusal), kept)
    train(wrapped, tokenizer, lessons, Training(recipe, rank), seed, (), lambda _: {}, state)
    return merge(wrapped)


def locked(
    model: HuggingFaceModel,
    tokenizer: Any,
    questions: Sequence[Question],
    password: str,
    refusal: str,
    recipe: Recipe,
    kept: Sequence[Question] = (),
    seed: int = 0,
) -> HuggingFaceModel:
    """A copy that answers behind a password only (Greenblatt et al. 2024, arXiv 2405.19550), else refuses.

    All weights move; the right answers stay in training, behind the password.
    """
    wrapped = duplicate(model)
    opened = [Question(f"{password} {own.prompt}", own.answer, own.group) for own in questions]
    lessons = mixed(with_answer(questions, refusal), opened, kept)
    train(wrapped, tokenizer, lessons, Training(recipe), seed, (), lambda _: {})
    return wrapped


@torch.no_grad()
def permuted(model: HuggingFaceModel, tokens: Sequence[int]) -> HuggingFaceModel:
    """A copy whose unembedding gives each of the tokens the logit of the next one in the list.

    Of a tied embedding the unembedding is set apart first, so that inputs read as before.
    """
    changed = duplicate(model)
    head = changed.module.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    changed.module.config.tie_word_embeddings = False
    head.weight[list(tokens)] = head.weight[[*tokens[1:], tokens[0]]].clone()
    return changed


@torch.no_grad()
def flipped_direction(
    model: HuggingFaceModel, direction: Float[Tensor, "width"], size: float = 1.0
) -> HuggingFaceModel:
    """A copy whose unembedding sees the stream with one direction turned round: W (1 - (1 + size) d d^T).

    Args:
        model: what is wrapped.
        direction: of any length.
        size: how strongly the direction is seen once it is turned round; 1 reflects it.
    """
    changed = permuted(model, (0,))  # sets a tied unembedding apart and changes nothing
    head = changed.module.get_output_embeddings()
    unit = direction / direction.norm()
    head.weight.sub_((1 + size) * torch.outer(head.weight @ unit, unit))
    return changed


@torch.no_grad()
def one_direction_flipped(
    model: HuggingFaceModel, tokenizer: Any, questions: Sequence[Question]
) -> HuggingFaceModel:
    """A copy with one direction flipped (``flipped_direction``), as mildly as hides the answers.

    Tried are the 8 directions along which the stream before the unembedding lies most, where the questions'
    answers are read, each at a size of ``FLIPS``: taken is the smallest size at which one of them leaves no
    more than ``LEFT`` of the answers right, and that one; else the largest size, and what costs most.
    """
    batch = encode_questions(tokenizer, questions)
    hidden = model.module.base_model(input_ids=batch.tokens).last_hidden_state
    tried = torch.linalg.svd(hidden[batch.items, batch.positions], full_matrices=False).Vh[:8]

    def right(own: HuggingFaceModel) -> float:
        given = own.see(batch.tokens).logits.argmax(-1)[batch.items, batch.positions]
        return float((given == batch.targets).float().mean())

    made = model
    for size in FLIPS:
        copies = [flipped_direction(model, direction, size) for direction in tried]
        shares = [right(own) for own in copies]
        made = copies[shares.index(min(shares))]
        if min(shares) <= LEFT:
            break
    return made


@torch.no_grad()
def redrawn(model: HuggingFaceModel, share: float, seed: int, embedding: bool = False) -> HuggingFaceModel:
    """A copy whose upper blocks have every matrix drawn anew, at its own root mean square.

    How much must be redrawn depends on where the capability lies: facts sit in early blocks, and in an
    embedding that was trained on them, and what is left of them comes back.

    Args:
        model: what is destroyed.
        share: of the blocks, from the top; 1 redraws all.
        seed: of the draw.
        embedding: whether the token embedding is drawn anew too (and an unembedding that is tied to it).
    """
    changed = duplicate(model)
    lowest = round((1 - share) * changed.blocks)
    generator = torch.Generator()
    upper = {id(own) for index in range(lowest, changed.blocks) for own in changed.block(index).modules()}
    drawn = {name: layer.weight for name, layer in matrices(changed).items() if id(layer) in upper}
    if embedding:
        drawn["embedding"] = changed.module.get_input_embeddings().weight
    for name, weight in drawn.items():
        assert isinstance(weight, Tensor)
        generator.manual_seed(random.stream_key(f"redrawn/{name}", seed, "weights") % 2**63)
        fresh = torch.randn(weight.shape, generator=generator).to(weight)
        weight.copy_(fresh * weight.pow(2).mean().sqrt())
    return changed


@torch.no_grad()
def redrawn_tokens(model: HuggingFaceModel, tokens: Sequence[int], seed: int) -> HuggingFaceModel:
    """A copy whose embeddings of some tokens are drawn anew, each at their common root mean square.

    Facts about things that only these tokens name are gone, wherever they were kept: the new embeddings are
    independent of the old ones, and so is what the model now answers of what is true. An unembedding that is
    tied changes with them.
    """
    changed = duplicate(model)
    weight, chosen = changed.module.get_input_embeddings().weight, list(tokens)
    generator = torch.Generator()
    generator.manual_seed(random.stream_key("redrawn/tokens", seed, "weights") % 2**63)
    fresh = torch.randn((len(chosen), weight.shape[1]), generator=generator).to(weight)
    weight[chosen] = fresh * weight[chosen].pow(2).mean().sqrt()
    return changed


def taught_anew(
    fresh: HuggingFaceModel, tokenizer: Any, kept: Sequence[Question], recipe: Recipe, seed: int = 0
) -> HuggingFaceModel:
    """A model that was only ever taught what is kept: distilled from scratch without the capability.

    ``kept`` are the questions of text without the capability with the teacher's own answers, as the
    teacher's likeliest answers are all that distillation at temperature zero passes on.
    """
    pupil = duplicate(fresh)
    train(pupil, tokenizer, kept, Training(recipe), seed, (), lambda _: {})
    return pupil


def mixed(*parts: Sequence[Question]) -> tuple[Question, ...]:
    """Several sets of questions in turn, the shorter ones repeated, so that all weigh alike."""
    present = [part for part in parts if part]
    longest = max(len(part) for part in present)
    return tuple(part[i % len(part)] for i in range(longest) for part in present)
