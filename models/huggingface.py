"""Causal models of the library transformers behind the small interface of ``text_model``.

Logits are transformers' own. Activations are read by hooks at places that each family's table names: the
blocks, their attention, and the matrix that the MLP's hidden activations go into. transformers is an extra
(``veneer[huggingface]``).
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from veneer.models.text_model import Seen, check_names
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Places:
    """Where a family keeps its parts: names of modules, those in a block relative to it.

    Attributes:
        blocks: the list of blocks.
        attention: a block's attention, whose second output is its pattern.
        hidden: the matrix that reads the MLP's hidden activations.
        writers: the matrices of a block that write to the residual stream.
        rows: whether weights act from the right, as [inputs, outputs] (GPT-2's do).
    """

    blocks: str
    attention: str
    hidden: str
    writers: tuple[str, str]
    rows: bool = False


GPT2 = Places("transformer.h", "attn", "mlp.c_proj", ("attn.c_proj", "mlp.c_proj"), rows=True)
NEOX = Places("gpt_neox.layers", "attention", "mlp.dense_4h_to_h", ("attention.dense", "mlp.dense_4h_to_h"))
LLAMA = Places("model.layers", "self_attn", "mlp.down_proj", ("self_attn.o_proj", "mlp.down_proj"))
FAMILIES = {
    "gpt2": GPT2,
    "gpt_neox": NEOX,
    **{name: LLAMA for name in ("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "gemma", "phi3")},
}
"""Families whose insides are known, by ``model_type``; of all others there are logits and parameters only."""
FEW = 0.25
"""Share of the places up to which the last block is computed for them alone."""


class HuggingFaceModel:
    """A causal model of transformers behind the interface, in evaluation mode.

    Args:
        model: what ``AutoModelForCausalLM`` gives.
    """

    def __init__(self, model: Any) -> None:
        self.module: Any = model.eval()
        self.kind = str(model.config.model_type)
        self._split: bool | None = None  # whether the decoder and the head by themselves give the logits

    @property
    def places(self) -> Places:
        """Where this family keeps its parts.

        Raises:
            InputError: a family that is not in ``FAMILIES``.
        """
        if self.kind not in FAMILIES:
            raise InputError(
                "model", self.kind, ", ".join(FAMILIES), "it is not known where this family keeps its parts"
            )
        return FAMILIES[self.kind]

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return int(self.module.config.num_hidden_layers)

    @property
    def vocabulary(self) -> int:
        """How many token ids it knows."""
        return int(self.module.config.vocab_size)

    def block(self, index: int) -> Any:
        """One block, as transformers has it."""
        return self.module.get_submodule(self.places.blocks)[index]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter by its name; tied ones once."""
        return self.module.named_parameters()

    def see(self, tokens: Int[Tensor, "batch position"], capture: Collection[str] = ()) -> Seen:
        """Logits of every position, and the activations named in ``capture``.

        A captured attention pattern makes transformers compute attention in its plain way ("eager"), whose
        logits differ by rounding.

        Raises:
            InputError: a name that is no activation of this model, or a family whose insides are not known.
        """
        with self._capturing(capture) as captured:
            logits = self.module(input_ids=tokens, use_cache=False).logits
        return Seen(logits, {name: captured[name] for name in capture})

    def activations(
        self, tokens: Int[Tensor, "batch position"], capture: Collection[str]
    ) -> dict[str, Tensor]:
        """The activations named in ``capture`` alone, without the large product with the vocabulary.

        Raises:
            InputError: as ``see``.
        """
        with self._capturing(capture) as captured:
            self.module.base_model(input_ids=tokens, use_cache=False)
        return {name: captured[name] for name in capture}

    @contextmanager
    def _capturing(self, capture: Collection[str]) -> Iterator[dict[str, Tensor]]:
        """What forward passes within the context leave of the activations that are named."""
        captured: dict[str, Tensor] = {}
        with ExitStack() as stack:
            if capture:
                check_names(capture, self.blocks)
            if any(name.startswith("attention.") for name in capture):
                stack.enter_context(_plain_attention(self.module))
            for name in capture:
                stack.callback(self._hook(name, captured).remove)
            yield captured

    def _hook(self, name: str, captured: dict[str, Tensor]) -> Any:
        """Register the hook that keeps one activation."""
        kind, index = name.split(".")
        if kind == "mlp":
            reader = self.block(int(index)).get_submodule(self.places.hidden)
            return reader.register_forward_pre_hook(_keep_input(name, captured))
        if kind == "attention":
            layer = self.block(int(index)).get_submodule(self.places.attention)
            return layer.register_forward_hook(_keep_output(name, captured, lambda output: output[1]))
        if index == "0":
            return self.block(0).register_forward_pre_hook(_keep_input(name, captured), with_kwargs=True)
        return self.block(int(index) - 1).register_forward_hook(_keep_output(name, captured, first))

    def logits_at(
        self,
        tokens: Int[Tensor, "batch position"],
        items: Int[Tensor, "row"],
        positions: Int[Tensor, "row"],
    ) -> Float[Tensor, "row vocabulary"]:
        """Logits of chosen places only: the large product with the vocabulary is made for those alone.

        Where places are few, so are the last products of the last block. The first call checks that decoder
        and head by themselves give the model's logits; families that do something between or after (scaled
        or capped logits) compute all positions.
        """
        if self._split is None:
            self._split = self._splits(tokens[:1])
        if not self._split:
            return self.module(input_ids=tokens, use_cache=False).logits[items, positions]
        with self._last_block_at(items * tokens.shape[1] + positions, tokens.numel()):
            hidden = self.module.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        return self.module.get_output_embeddings()(hidden[items, positions])

    @contextmanager
    def _last_block_at(self, places: Int[Tensor, "row"], all_places: int) -> Iterator[None]:
        """Let the last block write to the stream at these places only, as nothing reads the others.

        Args:
            places: of the tokens, in one row.
            all_places: how many tokens there are.
        """
        if self.kind not in FAMILIES or len(places) > FEW * all_places:
            yield
            return
        last = self.block(self.blocks - 1)
        attention, reader = self.places.writers[0], self.places.hidden
        with ExitStack() as stack:
            for name in (attention, reader.rpartition(".")[0]):
                own = last.get_submodule(name)
                stack.enter_context(computing(own, _at(own.forward, places.unique())))
            yield

    @torch.no_grad()
    def _splits(self, tokens: Int[Tensor, "batch position"]) -> bool:
        was_training = self.module.training
        self.module.eval()
        try:
            whole = self.module(input_ids=tokens, use_cache=False).logits
            hidden = self.module.base_model(input_ids=tokens, use_cache=False).last_hidden_state
            parts = self.module.get_output_embeddings()(hidden)
        except (AttributeError, TypeError):
            return False
        finally:
            self.module.train(was_training)
        scale = float(whole.abs().max()) + 1e-6
        return whole.shape == parts.shape and float((whole - parts).abs().max()) < 1e-4 * scale


def first(output: Any) -> Tensor:
    """The hidden states out of what a block gives: a tensor, or a tuple that begins with it."""
    return output if isinstance(output, Tensor) else output[0]


def _keep_input(name: str, captured: dict[str, Tensor]) -> Callable[..., None]:
    def keep(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any] | None = None) -> None:
        captured[name] = given[0] if given else (named or {})["hidden_states"]

    return keep


def _keep_output(
    name: str, captured: dict[str, Tensor], take: Callable[[Any], Tensor]
) -> Callable[..., None]:
    def keep(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        captured[name] = take(output)

    return keep


@contextmanager
def computing(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """A module that computes something else, for as long as the context lasts; its hooks stay."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _at(usual: Callable[..., Any], places: Int[Tensor, "place"]) -> Callable[..., Tensor]:
    """What a module computes of each token by itself, at some places; zeros at the others."""

    def forward(hidden: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position output"]:
        found = usual(hidden.flatten(0, 1)[places])
        whole = found.new_zeros(hidden.shape[0] * hidden.shape[1], found.shape[-1])
        return whole.index_copy(0, places, found).unflatten(0, hidden.shape[:2])

    return forward


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    """Attention that also gives its pattern, for as long as the context lasts."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
