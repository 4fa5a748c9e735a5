"""What was saved comes back bit for bit, and nothing else does: damage is refused by file name."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from veneer.models.checkpoint import HEADER, checkpoint_files, load_checkpoint, save_checkpoint
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CONFIG = TransformerConfig(
    vocabulary=5, classes=3, positions=4, width=6, blocks=2, heads=2, key_size=6, mlp_width=7
)


def randomized(
    config: TransformerConfig, members: int = 1, dtype: torch.dtype = torch.float32
) -> Transformer:
    model = Transformer(config, members).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def equal(a: Transformer, b: Transformer) -> bool:
    """Of one configuration, and each parameter the same bits, dtype and trainability."""
    if a.config != b.config or a.members != b.members:
        return False
    mine, other = dict(a.named_parameters()), dict(b.named_parameters())
    return mine.keys() == other.keys() and all(
        mine[k].dtype == other[k].dtype
        and mine[k].requires_grad == other[k].requires_grad
        and torch.equal(mine[k], other[k])
        for k in mine
    )


sizes = st.integers(1, 4)
configs = st.builds(
    TransformerConfig,
    vocabulary=sizes,
    classes=sizes,
    positions=sizes,
    width=sizes,
    blocks=st.integers(0, 2),
    heads=sizes,
    key_size=sizes,
    mlp_width=sizes,
    causal=st.booleans(),
    normalization=st.sampled_from(["none", "pre"]),
    activation=st.sampled_from(["relu", "gelu"]),
    unembedding=st.sampled_from(["fixed", "trained"]),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40)
@given(configs, sizes, st.sampled_from(DTYPES), st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_a_fleet_and_its_metadata_come_back(
    config: TransformerConfig, members: int, dtype: torch.dtype, metadata: dict[str, Any]
) -> None:
    model = randomized(config, members, dtype)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "model", model, metadata)
        loaded, read = load_checkpoint(Path(folder) / "model")
    assert equal(loaded, model)
    assert read == metadata


@pytest.mark.parametrize("index", range(3))
def test_a_member_is_an_ordinary_checkpoint(tmp_path: Path, index: int) -> None:
    fleet = randomized(CONFIG, members=3)
    save_checkpoint(tmp_path / "member", fleet.member(index))
    loaded, _ = load_checkpoint(tmp_path / "member")
    assert loaded.members == 1
    assert equal(loaded, fleet.select([index]))


def test_a_loaded_model_computes_the_same(tmp_path: Path) -> None:
    model = randomized(CONFIG, members=2, dtype=torch.float64)
    save_checkpoint(tmp_path / "model", model)
    tokens = torch.arange(16).view(2, 2, 4) % 5
    assert torch.equal(load_checkpoint(tmp_path / "model")[0](tokens).logits, model(tokens).logits)


def test_a_loaded_model_does_not_hang_on_its_file(tmp_path: Path) -> None:
    model = randomized(CONFIG)
    save_checkpoint(tmp_path / "model", model)
    loaded, _ = load_checkpoint(tmp_path / "model")
    weights = tmp_path / "model.safetensors"
    with weights.open("r+b") as file:
        file.write(b"\0" * weights.stat().st_size)
    assert equal(loaded, model)


@pytest.mark.parametrize("given", ["run.v1", "run.v1.safetensors", "run.v1.json"])
def test_the_name_may_be_either_files(tmp_path: Path, given: str) -> None:
    expected = (tmp_path / "run.v1.safetensors", tmp_path / "run.v1.json")
    assert checkpoint_files(tmp_path / given) == expected
    assert save_checkpoint(str(tmp_path / given), randomized(CONFIG)) == expected
    assert sorted(tmp_path.iterdir()) == sorted(expected)


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, randomized(CONFIG), {"seed": 1, "task": "count"})
    for suffix in (".safetensors", ".json"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    """A damage that changes the JSON's content."""

    def damage(weights: Path, description: Path) -> None:
        content = json.loads(description.read_text())
        change(content)
        description.write_text(json.dumps(content))

    return damage


def configured(**changes: object) -> Callable[[Path, Path], None]:
    return edit(lambda content: content["config"].update(changes))


def put(text: bytes) -> Callable[[Path, Path], None]:
    return lambda weights, description: description.write_bytes(text) and None


def flip_one_bit(weights: Path, description: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)


def claim(weights: Path, description: Path, **sizes: int) -> None:
    """Both files agree on sizes that no machine has."""
    import hashlib

    content = json.loads(description.read_text())
    content["config"].update(sizes)
    described = {k: v for k, v in content.items() if k != "sha256"}
    save_file(load_file(weights), weights, {HEADER: json.dumps(described, sort_keys=True)})
    content["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    description.write_text(json.dumps(content))


def rewrite(weights: Path, description: Path, header: bool, **changes: torch.Tensor) -> None:
    """Other weights with a checksum that fits, so that only what they are can give them away."""
    import hashlib

    content = json.loads(description.read_text())
    described = {k: v for k, v in content.items() if k != "sha256"}
    save_file({**load_file(weights), **changes}, weights, {HEADER: json.dumps(described)} if header else None)
    content["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    description.write_text(json.dumps(content))


DAMAGES: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "no weights": ("safetensors", lambda w, d: w.unlink()),
    "empty weights": ("safetensors", lambda w, d: w.write_bytes(b"")),
    "truncated weights": ("safetensors", lambda w, d: os.truncate(w, w.stat().st_size - 1)),
    "weights cut in the header": ("safetensors", lambda w, d: os.truncate(w, 20)),
    "one bit flipped": ("safetensors", flip_one_bit),
    "a folder for weights": ("safetensors", lambda w, d: (w.unlink(), w.mkdir())),
    "weights of other shape": ("safetensors", lambda w, d: rewrite(w, d, True, unembedding=torch.zeros(2))),
    "an unknown tensor": ("safetensors", lambda w, d: rewrite(w, d, True, surplus=torch.zeros(2))),
    "weights of other dtype": (
        "safetensors",
        lambda w, d: rewrite(w, d, True, unembedding=torch.zeros(1, 6, 3, dtype=torch.float64)),
    ),
    "weights that do not say what they are": ("json", lambda w, d: rewrite(w, d, False)),
    "no description": ("json", lambda w, d: d.unlink()),
    "empty description": ("json", put(b"")),
    "truncated description": ("json", lambda w, d: os.truncate(d, 100)),
    "a description that is no text": ("json", put(b"\xff\xfe\x00")),
    "a list": ("json", put(b"[1]")),
    "brackets without end": ("json", put(b"[" * 100_000)),
    "unknown format": ("json", edit(lambda c: c.update(format=2))),
    "no format": ("json", edit(lambda c: c.pop("format"))),
    "no checksum": ("json", edit(lambda c: c.pop("sha256"))),
    "wrong checksum": ("safetensors", edit(lambda c: c.update(sha256="0" * 64))),
    "no config": ("json", edit(lambda c: c.pop("config"))),
    "config of other type": ("json", edit(lambda c: c.update(config=[]))),
    "config without a field": ("json", edit(lambda c: c["config"].pop("heads"))),
    "config with an unknown field": ("json", configured(bias=True)),
    "a size as text": ("json", configured(width="6")),
    "a negative size": ("json", configured(width=-6)),
    "a truth value as a size": ("json", configured(blocks=True)),
    "an unknown activation": ("json", configured(activation="swish")),
    "another width": ("json", configured(width=8)),
    "the same shapes otherwise split into heads": ("json", configured(heads=3, key_size=4)),
    "another direction": ("json", configured(causal=True)),
    "another number of members": ("json", edit(lambda c: c.update(members=2))),
    "another dtype": ("json", edit(lambda c: c.update(dtype="float64"))),
    "an unknown dtype": ("json", edit(lambda c: c.update(dtype="int8"))),
    "a dtype that is a list": ("json", edit(lambda c: c.update(dtype=["float32"]))),
    "other metadata": ("json", edit(lambda c: c.update(metadata={"seed": 2}))),
    "metadata that is no object": ("json", edit(lambda c: c.update(metadata=3))),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "name", ["width", "vocabulary", "positions", "blocks", "heads", "mlp_width", "classes"]
)
def test_a_size_that_the_weights_cannot_have_is_refused_at_once(tmp_path: Path, name: str) -> None:
    weights, description = save_checkpoint(tmp_path / "model", randomized(CONFIG))
    claim(weights, description, **{name: 10**18})
    with pytest.raises(InputError, match=f"{name} = {10**18}, and it holds"):
        load_checkpoint(weights)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_and_the_file_named(tmp_path: Path, damage: str) -> None:
    suffix, spoil = DAMAGES[damage]
    weights, description = save_checkpoint(tmp_path / "model", randomized(CONFIG), {"seed": 1})
    spoil(weights, description)
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path / "model")
    assert caught.value.value == str(tmp_path / f"model.{suffix}")
    assert "\n" not in str(caught.value)


def test_a_later_format_is_called_so(tmp_path: Path) -> None:
    """A file of a later version may look quite different; nothing else about it is complained of."""
    _, description = save_checkpoint(tmp_path / "model", randomized(CONFIG))
    description.write_text(json.dumps({"format": 2, "layers": []}))
    with pytest.raises(InputError, match="its format is 2, this version reads 1"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_files_of_two_checkpoints_do_not_mix(tmp_path: Path, suffix: str) -> None:
    save_checkpoint(tmp_path / "a", randomized(CONFIG))
    save_checkpoint(tmp_path / "b", randomized(replace(CONFIG, causal=True)))
    os.replace(tmp_path / f"b.{suffix}", tmp_path / f"a.{suffix}")
    with pytest.raises(InputError, match=r"a\.safetensors"):
        load_checkpoint(tmp_path / "a")


def test_a_pickle_is_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
            return pytest.fail, ()

    weights, _ = save_checkpoint(tmp_path / "model", randomized(CONFIG))
    torch.save({"token_embedding": Bomb()}, weights)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_checkpoint(weights)


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    old = randomized(CONFIG)
    save_checkpoint(tmp_path / "model", old)

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, broken, fail)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(tmp_path / "model", randomized(replace(CONFIG, mlp_width=9)))
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(tmp_path / "new", old)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert equal(load_checkpoint(tmp_path / "model")[0], old)


def test_a_crash_between_the_two_files_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON comes last, and no description without its weights ever passes."""
    save_checkpoint(tmp_path / "model", randomized(CONFIG))
    put_in_place = os.replace

    def fail_for_json(source: Path, target: Path) -> None:
        if target.suffix == ".json":
            raise OSError("the lights went out")
        put_in_place(source, target)

    with monkeypatch.context() as context:
        context.setattr(os, "replace", fail_for_json)
        with pytest.raises(OSError, match="lights"):
            save_checkpoint(tmp_path / "model", randomized(replace(CONFIG, causal=True)))
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("kind", ["float8", "mixed"])
def test_other_dtypes_are_refused_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    model = randomized(CONFIG)
    if kind == "mixed":
        model.blocks.double()
    else:
        model.to(torch.float8_e5m2)
    with pytest.raises(InputError, match="dtype"):
        save_checkpoint(tmp_path / "model", model)
    assert not list(tmp_path.iterdir())
