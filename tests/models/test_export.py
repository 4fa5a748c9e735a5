"""Exported models compute what ours compute: logits and activations, in both directions."""

import importlib.util
from dataclasses import replace
from typing import Any

import pytest
import torch

from veneer.models.config import TransformerConfig
from veneer.models.export import from_huggingface, to_huggingface, to_transformer_lens
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

COMPILED = TransformerConfig(
    vocabulary=7, classes=3, positions=6, width=10, blocks=2, heads=3, key_size=4, mlp_width=9
)
GPT = TransformerConfig.gpt(vocabulary=8, positions=6, width=12, blocks=2, heads=3)


def randomized(
    config: TransformerConfig, dtype: torch.dtype = torch.float64, members: int = 1
) -> Transformer:
    """Random in every parameter, biases and norms included."""
    model = Transformer(config, members).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model


def some_tokens(config: TransformerConfig, batch: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(config.vocabulary, (batch, config.positions), generator=generator)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize(
    "config",
    [
        COMPILED,
        GPT,
        replace(GPT, key_size=7, mlp_width=5, classes=2),
        replace(COMPILED, causal=True, activation="gelu"),
    ],
    ids=["compiled", "gpt", "gpt of free sizes", "causal without norm"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_transformer_lens_sees_our_logits_and_activations(
    config: TransformerConfig, dtype: torch.dtype, tolerance: float
) -> None:
    pytest.importorskip("transformer_lens")
    model, tokens = randomized(config, dtype), some_tokens(config)
    hooks = {"residual.0": "blocks.0.hook_in"}
    for i in range(config.blocks):
        hooks[f"residual.{i + 1}"] = f"blocks.{i}.hook_out"
        hooks[f"attention.{i}"] = f"blocks.{i}.attn.hook_pattern"
        hooks[f"mlp.{i}"] = f"blocks.{i}.mlp.out.hook_in"
    ours = model(tokens.unsqueeze(0), capture=hooks)
    logits, cache = to_transformer_lens(model).run_with_cache(tokens)
    assert logits.dtype == dtype
    assert difference(logits, ours.logits[0]) < tolerance
    for name, hook in hooks.items():
        assert difference(cache[hook], ours.captured[name][0]) < tolerance, name


@pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
def test_shorter_inputs_agree_too(config: TransformerConfig) -> None:
    pytest.importorskip("transformer_lens")
    model, tokens = randomized(config), some_tokens(config)[:, :3]
    assert difference(to_transformer_lens(model)(tokens), model(tokens.unsqueeze(0)).logits[0]) < 1e-12


def test_the_unembedding_is_the_matrix_and_not_the_first_coordinates() -> None:
    pytest.importorskip("transformer_lens")
    model, tokens = randomized(COMPILED), some_tokens(COMPILED)
    with torch.no_grad():
        model.unembedding.zero_()
        model.unembedding[0, 5:8] = torch.eye(3, dtype=torch.float64)
    bridge = to_transformer_lens(model)
    logits, cache = bridge.run_with_cache(tokens)
    assert torch.equal(logits, cache["blocks.1.hook_out"][..., 5:8])
    assert bridge.cfg.d_vocab_out == 3


def test_an_edit_through_a_hook_has_its_effect() -> None:
    """The exported model is one to intervene on, not only to look at."""
    pytest.importorskip("transformer_lens")
    model, tokens = randomized(GPT), some_tokens(GPT)
    silent = model.member(0)
    with torch.no_grad():
        block: Any = silent.blocks[1]
        block.mlp_out.weight.zero_()
    edited = to_transformer_lens(model).run_with_hooks(
        tokens, fwd_hooks=[("blocks.1.mlp.out.hook_in", lambda value, hook: torch.zeros_like(value))]
    )
    assert difference(edited, silent(tokens.unsqueeze(0)).logits[0]) < 1e-12


@pytest.mark.parametrize("config", [GPT, replace(GPT, mlp_width=5)], ids=["gpt", "own MLP width"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_gpt2_of_hugging_face_gives_our_logits(
    config: TransformerConfig, dtype: torch.dtype, tolerance: float
) -> None:
    pytest.importorskip("transformers")
    model, tokens = randomized(config, dtype), some_tokens(config)
    logits = to_huggingface(model)(tokens).logits
    assert logits.dtype == dtype
    assert difference(logits, model(tokens.unsqueeze(0)).logits[0]) < tolerance


def test_gpt2_of_hugging_face_trains_without_dropout_as_ours_does() -> None:
    pytest.importorskip("transformers")
    model, tokens = randomized(GPT), some_tokens(GPT)
    gpt2 = to_huggingface(model)
    assert not gpt2.training
    assert difference(gpt2.train()(tokens).logits, model(tokens.unsqueeze(0)).logits[0]) < 1e-12


def hugging_face_gpt2(**changes: Any) -> Any:
    """A model of theirs with random weights, biases and norms included."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 8, "n_positions": 6, "n_embd": 12, "n_layer": 2, "n_head": 3}
    config = transformers.GPT2Config(**{**sizes, "tie_word_embeddings": False, **changes})
    gpt2 = transformers.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in gpt2.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return gpt2


@pytest.mark.parametrize("inner", [None, 5])
def test_ours_gives_the_logits_of_hugging_faces_gpt2(inner: int | None) -> None:
    gpt2, tokens = hugging_face_gpt2(n_inner=inner), some_tokens(GPT)
    model = from_huggingface(gpt2)
    assert model.config == replace(GPT, mlp_width=inner or 48)
    assert difference(model(tokens.unsqueeze(0)).logits[0], gpt2(tokens).logits) < 1e-5


def test_there_and_back_changes_no_bit() -> None:
    pytest.importorskip("transformers")
    model = randomized(GPT)
    back = from_huggingface(to_huggingface(model))
    assert back.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


@pytest.mark.parametrize("export", [to_transformer_lens, to_huggingface])
def test_an_export_is_a_copy_and_draws_no_random_numbers(export: Any) -> None:
    pytest.importorskip("transformer_lens")
    model = randomized(GPT)
    state = torch.random.get_rng_state()
    exported = export(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    before = [parameter.clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in exported.parameters():
            parameter.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("causal", {"causal": False}),
        ("normalization", {"normalization": "none"}),
        ("activation", {"activation": "relu"}),
        ("classes", {"classes": 3}),
        ("key_size", {"key_size": 5}),
    ],
)
def test_what_gpt2_cannot_be_is_refused_by_name(field: str, change: dict[str, Any]) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match=field):
        to_huggingface(Transformer(replace(GPT, **change)))


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "relu"},
        {"layer_norm_epsilon": 1e-6},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_gpt2_that_ours_cannot_be_is_refused_by_name(change: dict[str, Any]) -> None:
    gpt2 = hugging_face_gpt2(**change)
    with pytest.raises(InputError, match=next(iter(change))):
        from_huggingface(gpt2)


@pytest.mark.parametrize("name", ["GPT2Model", "GPTNeoForCausalLM"])
def test_another_class_than_gpt2_with_its_head_is_refused_in_a_line(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, name)
    sizes = {"vocab_size": 8, "hidden_size": 12, "num_layers": 1, "num_heads": 3}
    sizes |= {"attention_types": [[["global"], 1]]} if "Neo" in name else {}
    with pytest.raises(InputError, match=f"{name}.*GPT2LMHeadModel") as refused:
        from_huggingface(kind(kind.config_class(**sizes)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("export", [to_transformer_lens, to_huggingface])
def test_a_fleet_is_refused(export: Any) -> None:
    with pytest.raises(InputError, match="members"):
        export(Transformer(GPT, members=2))


@pytest.mark.parametrize(
    ("export", "extra"), [(to_transformer_lens, "transformer-lens"), (to_huggingface, "huggingface")]
)
def test_a_missing_extra_is_named(export: Any, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=extra):
        export(Transformer(GPT))
