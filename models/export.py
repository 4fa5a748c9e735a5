"""The same weights in other libraries: TransformerLens to look inside, Hugging Face to share.

A single model of any configuration becomes a native TransformerLens model (``NativeModel``, which
like ours has an optional norm, a direction, a key size and output classes of its own). A GPT becomes
Hugging Face's ``GPT2LMHeadModel``, and back. Both libraries are extras and imported only here.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

if TYPE_CHECKING:
    import transformer_lens
    import transformers

EPSILON = nn.LayerNorm(1).eps
"""What our LayerNorm adds to the variance, and GPT-2's too (1e-5)."""

# How each part of a parameter's name reads in the other library.
NATIVE = {
    "token_embedding": "tok_embed.weight",
    "position_embedding": "pos.weight",
    "blocks": "layers",
    "norm_attention": "ln1",
    "query": "attn.q",
    "key": "attn.k",
    "value": "attn.v",
    "output": "attn.o",
    "norm_mlp": "ln2",
    "mlp_in": "mlp.fc_in",
    "mlp_out": "mlp.fc_out",
    "norm_final": "ln_out",
    "unembedding": "head.weight",
}
GPT2 = {
    "token_embedding": "transformer.wte.weight",
    "position_embedding": "transformer.wpe.weight",
    "blocks": "transformer.h",
    "norm_attention": "ln_1",
    "query": "attn.c_attn.query",
    "key": "attn.c_attn.key",
    "value": "attn.c_attn.value",
    "output": "attn.c_proj",
    "norm_mlp": "ln_2",
    "mlp_in": "mlp.c_fc",
    "mlp_out": "mlp.c_proj",
    "norm_final": "transformer.ln_f",
    "unembedding": "lm_head.weight",
}
JOINED = ("query", "key", "value")
"""What GPT-2 holds side by side in one matrix, in this order."""


def to_transformer_lens(model: Transformer, name: str = "veneer") -> "transformer_lens.TransformerBridge":
    """One model as a TransformerLens model of equal logits and activations; the weights are copied.

    Ours against its hooks: ``residual.0`` is ``blocks.0.hook_in``, ``residual.I`` (I > 0)
    ``blocks.{I-1}.hook_out``, ``attention.I`` ``blocks.I.attn.hook_pattern`` and ``mlp.I``
    ``blocks.I.mlp.out.hook_in``. It has no tokenizer: give it token ids, special tokens included.

    Two traps of TransformerLens 4.3: ``hook_attn_scores`` holds the pattern after the softmax, and
    ``enable_compatibility_mode()`` centres the unembedding, which shifts logits and turns the one
    class of a numerical output into 0; with ``no_processing=True`` it changes nothing.

    Args:
        model: a fleet of one.
        name: what TransformerLens calls it.

    Raises:
        InputError: several members, or the extra ``transformer-lens`` is not installed.
    """
    _require("transformer_lens", "transformer-lens")
    _require_one(model)
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources import build_bridge_from_module
    from transformer_lens.model_bridge.sources.native import NativeModel

    ours, parameter = model.config, model.token_embedding
    config = TransformerBridgeConfig(
        d_vocab=ours.vocabulary,
        d_vocab_out=ours.classes,
        n_ctx=ours.positions,
        d_model=ours.width,
        n_layers=ours.blocks,
        n_heads=ours.heads,
        d_head=ours.key_size,
        d_mlp=ours.mlp_width,
        attention_dir="causal" if ours.causal else "bidirectional",
        normalization_type="LN" if ours.normalization == "pre" else None,
        eps=EPSILON,
        act_fn="gelu_new" if ours.activation == "gelu" else "relu",
        tokenizer_prepends_bos=False,
        init_weights=False,
    )
    with torch.random.fork_rng(devices=[]):  # making layers draws numbers that are overwritten
        native = NativeModel(config).to(parameter)
    embeddings = {NATIVE["token_embedding"], NATIVE["position_embedding"]}
    state = _renamed(model, NATIVE)
    native.load_state_dict({key: v if key in embeddings else v.t() for key, v in state.items()})
    bridge = build_bridge_from_module(
        native, "TransformerLensNative", tl_config=config, device=parameter.device, model_name=name
    )
    return bridge.eval()


def to_huggingface(model: Transformer) -> "transformers.GPT2LMHeadModel":
    """One GPT as Hugging Face's GPT-2, with equal logits; the weights are copied.

    It is in evaluation mode, without dropout, without a tokenizer and without special tokens.

    Raises:
        InputError: several members, a configuration that GPT-2 cannot have, or the extra
            ``huggingface`` is not installed.
    """
    _require("transformers", "huggingface")
    _require_one(model)
    from transformers import GPT2Config, GPT2LMHeadModel

    ours = model.config
    _require_fields({f"config.{name}": value for name, value in _gpt2_fields(ours).items()})
    config = GPT2Config(
        vocab_size=ours.vocabulary,
        n_positions=ours.positions,
        n_embd=ours.width,
        n_layer=ours.blocks,
        n_head=ours.heads,
        n_inner=ours.mlp_width,
        activation_function="gelu_new",
        layer_norm_epsilon=EPSILON,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        gpt2 = GPT2LMHeadModel(config).to(model.token_embedding)  # pyright: ignore[reportArgumentType]
    state = _renamed(model, GPT2)
    state[GPT2["unembedding"]] = state[GPT2["unembedding"]].t()
    for name in [name for name in state if ".c_attn.query." in name]:
        parts = [state.pop(name.replace("query", part)) for part in JOINED]
        state[name.replace("query.", "")] = torch.cat(parts, dim=-1)
    gpt2.load_state_dict(state)
    return gpt2.eval()


def from_huggingface(gpt2: Any) -> Transformer:
    """Hugging Face's GPT-2 as a fleet of one, with equal logits; the weights are copied.

    Dropout is not taken over: ours has none. A tied embedding becomes two parameters of equal values, which
    training can then move apart.

    Args:
        gpt2: a ``transformers.GPT2LMHeadModel``.

    Raises:
        InputError: a model of another class, or a configuration that ours cannot have.
    """
    if not any(kind.__name__ == "GPT2LMHeadModel" for kind in type(gpt2).__mro__):
        raise InputError("gpt2", type(gpt2).__name__, "a transformers.GPT2LMHeadModel")
    theirs = gpt2.config
    _require_fields(
        {
            "activation_function": (theirs.activation_function, "gelu_new"),
            "layer_norm_epsilon": (theirs.layer_norm_epsilon, EPSILON),
            "scale_attn_weights": (theirs.scale_attn_weights, True),
            "scale_attn_by_inverse_layer_idx": (theirs.scale_attn_by_inverse_layer_idx, False),
            "add_cross_attention": (theirs.add_cross_attention, False),
        }
    )
    config = TransformerConfig(
        vocabulary=theirs.vocab_size,
        classes=theirs.vocab_size,
        positions=theirs.n_positions,
        width=theirs.n_embd,
        blocks=theirs.n_layer,
        heads=theirs.n_head,
        key_size=theirs.n_embd // theirs.n_head,
        mlp_width=4 * theirs.n_embd if theirs.n_inner is None else theirs.n_inner,
        causal=True,
        normalization="pre",
        activation="gelu",
        unembedding="trained",
    )
    state = gpt2.state_dict()
    for name in [name for name in state if ".c_attn." in name]:
        parts = state.pop(name).chunk(len(JOINED), dim=-1)
        state |= {name.replace("c_attn", f"c_attn.{part}"): v for part, v in zip(JOINED, parts, strict=True)}
    state[GPT2["unembedding"]] = state[GPT2["unembedding"]].t()
    model = Transformer(config).to(state[GPT2["token_embedding"]])
    model.load_state_dict({name: state[_rename(name, GPT2)].unsqueeze(0) for name in model.state_dict()})
    return model


def _gpt2_fields(config: TransformerConfig) -> dict[str, tuple[object, object]]:
    """What GPT-2 fixes of our configuration: the value given and the only one possible."""
    return {
        "causal": (config.causal, True),
        "normalization": (config.normalization, "pre"),
        "activation": (config.activation, "gelu"),
        "classes": (config.classes, config.vocabulary),
        "heads * key_size": (config.key_size * config.heads, config.width),
    }


def _rename(name: str, table: dict[str, str]) -> str:
    return ".".join(table.get(part, part) for part in name.split("."))


def _renamed(model: Transformer, table: dict[str, str]) -> dict[str, Tensor]:
    """The parameters of a fleet of one, without the member axis, under another library's names."""
    return {_rename(name, table): value[0] for name, value in model.state_dict().items()}


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError("export", package, f"after pip install 'veneer[{extra}]'", "it is not installed")


def _require_one(model: Transformer) -> None:
    if model.members != 1:
        raise InputError("members", model.members, "1; model.member(i) takes one out")


def _require_fields(fields: dict[str, tuple[object, object]]) -> None:
    for name, (given, needed) in fields.items():
        if given != needed:
            raise InputError(name, given, f"{needed!r}", "GPT-2 as Veneer knows it cannot have this")
