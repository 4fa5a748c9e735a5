"""Models of transformers and ours look alike behind the interface, and compute what they always computed."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.text_models import FAMILIES, WORDS, make, save
from veneer.models.config import TransformerConfig
from veneer.models.export import from_huggingface, to_huggingface
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import (
    _quiet,
    check_memory,
    check_source,
    load_model,
    load_tokenizer,
    split_source,
    weights_hash,
)
from veneer.models.text_model import OneTransformer, TextModel, activation_names, largest_difference
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

TOKENS = torch.randint(WORDS, (3, 7), generator=torch.Generator().manual_seed(1))


def theirs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_folder_of_each_family_gives_the_logits_of_transformers(family: str, tmp_path: Path) -> None:
    model = make(family)
    loaded = load_model(str(save(model, tmp_path / "model")))
    assert isinstance(loaded, TextModel)
    assert (loaded.see(TOKENS).logits - theirs(model)).abs().max() < 1e-5
    assert {p.dtype for _, p in loaded.named_parameters()} == {torch.float32}
    assert check_source(str(tmp_path / "model")) is not None


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_chosen_places_have_the_logits_of_all_places(family: str) -> None:
    model = HuggingFaceModel(make(family))
    items, positions = torch.tensor([0, 2, 2]), torch.tensor([6, 0, 3])
    chosen = model.logits_at(TOKENS, items, positions)
    assert (chosen - model.see(TOKENS).logits[items, positions]).abs().max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_few_places_teach_what_all_places_would(family: str) -> None:
    """Gradients of a loss at few places, one of them asked for twice."""
    model = HuggingFaceModel(make(family))
    items, positions = torch.tensor([0, 2, 2, 0]), torch.tensor([6, 0, 3, 6])

    def gradients(logits: torch.Tensor) -> dict[str, torch.Tensor]:
        model.module.zero_grad()
        logits.log_softmax(-1)[:, 1].sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    few = gradients(model.logits_at(TOKENS, items, positions))
    every = gradients(model.module(input_ids=TOKENS).logits[items, positions])
    assert few.keys() == every.keys()
    for name, own in every.items():
        assert torch.allclose(few[name], own, atol=1e-5 * float(own.abs().max()) + 1e-7), name


def gguf(model: Any, file: Path) -> Path:
    """A Llama as llama.cpp writes it: its own names, and the halves of each head's rotation interleaved."""
    import gguf

    own, writer = model.config, gguf.GGUFWriter(file, "llama")
    writer.add_block_count(own.num_hidden_layers)
    writer.add_context_length(own.max_position_embeddings)
    writer.add_embedding_length(own.hidden_size)
    writer.add_feed_forward_length(own.intermediate_size)
    writer.add_head_count(own.num_attention_heads)
    writer.add_head_count_kv(own.num_key_value_heads)
    writer.add_layer_norm_rms_eps(own.rms_norm_eps)
    writer.add_rope_dimension_count(own.head_dim)
    writer.add_vocab_size(own.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, own.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        heads = {"q_proj": own.num_attention_heads, "k_proj": own.num_key_value_heads}
        count = next((n for part, n in heads.items() if part in name), None)
        if count is not None:
            value = value.view(count, 2, -1, value.shape[-1]).transpose(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@torch.no_grad()
def test_a_gguf_file_gives_the_logits_of_the_model_that_was_written(tmp_path: Path) -> None:
    model = make("llama")
    file = gguf(model, tmp_path / "model.gguf")
    assert check_source(str(file)) == check_source(str(save(model, tmp_path / "folder")))
    assert (load_model(str(file)).see(TOKENS).logits - theirs(model)).abs().max() < 1e-5


@torch.no_grad()
def test_a_base_with_an_adapter_gives_the_logits_of_peft(tmp_path: Path) -> None:
    import peft

    base = save(make("llama"), tmp_path / "base")
    adapted = peft.get_peft_model(
        make("llama"), peft.LoraConfig(r=3, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    ).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = load_model(f"{base}+{tmp_path / 'adapter'}")
    assert (loaded.see(TOKENS).logits - theirs(adapted)).abs().max() < 1e-5
    assert (loaded.see(TOKENS).logits - theirs(make("llama"))).abs().max() > 1e-2
    assert split_source(str(base)) == (str(base), None)


@pytest.mark.parametrize("family", ["gpt2", "gpt2 untied"])
@torch.no_grad()
def test_activations_are_those_of_our_own_transformer(family: str) -> None:
    """GPT-2 has two implementations here; every activation must be the same in both."""
    model = make(family)
    ours, hooked = OneTransformer(from_huggingface(model)), HuggingFaceModel(model)
    names = activation_names(2)
    assert (ours.blocks, ours.vocabulary) == (hooked.blocks, hooked.vocabulary)
    one, other = ours.see(TOKENS, names), hooked.see(TOKENS, names)
    assert one.captured.keys() == other.captured.keys() == set(names)
    for name in names:
        assert one.captured[name].shape == other.captured[name].shape
        assert (one.captured[name] - other.captured[name]).abs().max() < 1e-5, name
    assert largest_difference(ours, hooked, TOKENS) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_family_gives_every_activation(family: str) -> None:
    model = HuggingFaceModel(make(family))
    seen = model.see(TOKENS, activation_names(2))
    assert (seen.logits - model.see(TOKENS).logits).abs().max() < 1e-4
    alone = model.activations(TOKENS, activation_names(2))
    assert all(torch.equal(alone[name], value) for name, value in seen.captured.items())
    assert seen.captured["residual.1"].shape == (3, 7, 16)
    pattern = seen.captured["attention.1"]
    assert pattern.shape == (3, 4, 7, 7)
    assert torch.allclose(pattern.sum(-1), torch.ones(3, 4, 7), atol=1e-5)
    assert (pattern.triu(1) == 0).all()


def test_a_tied_gpt2_survives_the_way_here_and_back() -> None:
    model = make("gpt2")
    assert model.lm_head.weight is model.transformer.wte.weight
    back = to_huggingface(from_huggingface(model))
    assert (theirs(back) - theirs(model)).abs().max() < 1e-5


def test_equal_weights_have_equal_hashes(tmp_path: Path) -> None:
    one, other = HuggingFaceModel(make("llama")), load_model(str(save(make("llama"), tmp_path / "m")))
    assert weights_hash(one) == weights_hash(other)
    with torch.no_grad():
        next(iter(other.module.parameters()))[0, 0] += 1e-6
    assert weights_hash(one) != weights_hash(other)


def test_what_cannot_be_loaded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = save(make("llama"), tmp_path / "good")
    (tmp_path / "empty").mkdir()
    none, pickled, short, broken = (tmp_path / name for name in ("none", "pickled", "short", "broken"))
    for folder in (none, pickled, short, broken):
        folder.mkdir()
        (folder / "config.json").write_text((good / "config.json").read_text())
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (broken / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes()[:900])
    from safetensors.torch import load_file, save_file

    state = load_file(good / "model.safetensors")
    state.pop("model.norm.weight")
    save_file(state, short / "model.safetensors", {"format": "pt"})
    for source, said in (
        (tmp_path / "nowhere", "not there"),
        (tmp_path / "empty", "no config.json"),
        (none, "no weights"),
        (pickled, "save_pretrained"),
        (broken, "safetensors"),
        (short, "lacks model.norm.weight"),
        (f"{good}+{none}", "adapter_config.json"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            load_model(str(source))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="tokenizer"):
        load_tokenizer(str(none))
    with _quiet():
        assert not logging.getLogger("huggingface_hub").isEnabledFor(logging.WARNING), "it tells of each try"
    with pytest.raises(InputError, match="memory"):
        check_memory(10**15, "a test")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**9, 10**9))
    check_memory(10**8, "a test", "cuda")
    with pytest.raises(InputError, match="GPU"):
        check_memory(10**10, "a test", "cuda")


def test_a_model_that_is_no_text_model_is_refused() -> None:
    gpt = TransformerConfig.gpt(vocabulary=8, positions=6, width=12, blocks=2, heads=3)
    with pytest.raises(InputError, match="members"):
        OneTransformer(Transformer(gpt, 2))
    with pytest.raises(InputError, match="capture"):
        OneTransformer(Transformer(gpt)).see(torch.zeros(1, 3, dtype=torch.int64), ("residual.3",))
