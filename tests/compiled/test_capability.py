"""A capability can be kept, found again, and damaged without harm; bad requests are named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from veneer.compiled import cache, capabilities, compiler, programs
from veneer.compiled import file as rasp_file
from veneer.compiled.capability import CompiledCapability, Value
from veneer.compiled.summary import summary
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

PROGRAMS = """
from tracr.compiler import lib
from tracr.rasp import rasp

def hist(): return lib.make_hist()
def fractions(): return lib.make_frac_prevs(rasp.tokens == "a")
def heads():
    return lib.make_sort(rasp.tokens, rasp.tokens, max_seq_len=4, min_key=1)
last = lib.make_reverse(rasp.tokens)
three = 3
def selector(): return rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
def fails(): return 1 / 0
def wants(x): return x
def refused(): return rasp.Aggregate(rasp.Select(rasp.numerical(rasp.tokens + 1), rasp.tokens,
                                                 rasp.Comparison.EQ), rasp.tokens)
def averages(): return rasp.Aggregate(
    rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE), rasp.Map(lambda x: f"{x}!", rasp.tokens))
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VENEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def counter() -> CompiledCapability:
    return compiler.compile_program(programs.counter("a"), "abc", 4, answer_position=2)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(PROGRAMS)
    return str(path)


def same(a: CompiledCapability, b: CompiledCapability) -> bool:
    plain = [name for name in vars(a) if name != "model"]
    weights = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return (
        all(getattr(a, name) == getattr(b, name) for name in plain)
        and a.model.config == b.model.config
        and all(torch.equal(x, y) for x, y in weights)
    )


def with_values(classes: tuple[Value, ...]) -> CompiledCapability:
    config = TransformerConfig(3, len(classes), 4, 8, 1, 1, 2, 2)
    return CompiledCapability(
        Transformer(config), ("#", "B", 1), "B", "#", classes, ("one",), 3, False, 100, None, "t"
    )


def test_a_saved_capability_is_the_same_again(counter: CompiledCapability, tmp_path: Path) -> None:
    counter.save(tmp_path / "kept")
    assert same(CompiledCapability.load(tmp_path / "kept"), counter)
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["model.json", "model.safetensors"]


def test_values_of_equal_looks_stay_apart(tmp_path: Path) -> None:
    values = (None, True, 2, 2.5, 3.0, "3", "true", (1, "a", (None, False)), -0.5)
    with_values(values).save(tmp_path)
    loaded = CompiledCapability.load(tmp_path).classes
    assert loaded == values
    assert [type(value) for value in loaded or ()] == [type(value) for value in values]


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("harm", ["missing", "cut", "changed", "emptied"])
def test_damage_is_noticed(counter: CompiledCapability, tmp_path: Path, name: str, harm: str) -> None:
    counter.save(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    elif harm == "changed":
        content[-3] ^= 0xFF
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2] if harm == "cut" else b"")
    with pytest.raises(InputError, match="model"):
        CompiledCapability.load(tmp_path)


def test_inputs_get_bos_and_unknown_or_long_ones_are_refused(counter: CompiledCapability) -> None:
    ids = counter.encode(["a", counter.pad])
    assert [counter.vocabulary[i] for i in ids] == ["BOS", "a", "#"]
    for bad in (["z"], ["BOS"], list("abcab")):
        with pytest.raises(InputError):
            counter.encode(bad)
    batch = counter.encode_all([["a"], ["a", "b", "c"]])
    assert batch.shape == (2, 4)
    assert batch[0, 2:].tolist() == [counter.vocabulary.index("#")] * 2


def test_decoding_keeps_the_leading_axes(counter: CompiledCapability) -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 3], [4, 1]]), 5).float()
    assert counter.decode(logits) == [[0, 3], [4, 1]]
    assert counter.decode(logits[0, 1]) == 3


def test_a_cached_capability_loads_without_jax_and_tracr(own_cache: Path) -> None:
    made = capabilities.max_identifier(2, "abcd", 3)
    script = (
        "import sys; from veneer.compiled import capabilities;"
        "c = capabilities.max_identifier(2, 'abcd', 3); print(c.run(list('dbc'))[2]);"
        "loaded = {n.partition('.')[0] for n in sys.modules};"
        "sys.exit(bool(loaded & {'jax', 'jaxlib', 'haiku', 'tracr'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == made.run(list("dbc"))[2] == "c"


def test_a_damaged_cache_entry_is_made_again(own_cache: Path) -> None:
    made = capabilities.max_identifier(2, "abcd", 3)
    (entry,) = (own_cache / "compiled").iterdir()
    good = (entry / "model.safetensors").read_bytes()
    (entry / "model.safetensors").write_bytes(good[:100])
    assert same(capabilities.max_identifier(2, "abcd", 3), made)
    assert (entry / "model.safetensors").read_bytes() == good


def test_a_cache_that_cannot_be_written_is_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VENEER_CACHE", str(tmp_path / "file" / "cache"))
    assert capabilities.max_identifier(2, "abcd", 3).run(list("dbc"))[2] == "c"
    (told,) = caplog.messages
    assert told.startswith("not kept for the next time") and "file" in told


def test_a_cache_hit_does_not_make(counter: CompiledCapability) -> None:
    cache.remembered({"program": "x"}, lambda: counter)
    assert same(cache.remembered({"program": "x"}, lambda: pytest.fail("made again")), counter)
    assert cache.key({"program": "x"}) != cache.key({"program": "y"})


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.folder() == tmp_path / "cache" / "compiled"
    monkeypatch.delenv("VENEER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "veneer" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == Path.home() / ".cache" / "veneer" / "compiled"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: capabilities.counter("z"), "operand"),
        (lambda: capabilities.counter("ab"), "operand"),
        (lambda: capabilities.counter("a", "aa"), "letters"),
        (lambda: capabilities.counter("a", "a#"), "letters"),
        (lambda: capabilities.counter(length=1), "length"),
        (lambda: capabilities.counter(mlp_exactness=0), "mlp_exactness"),
        (lambda: capabilities.counter(mlp_exactness=300, literal=True), "mlp_exactness"),
        (lambda: capabilities.max_identifier(11), "rank"),
        (lambda: capabilities.max_identifier(0), "rank"),
        (lambda: capabilities.max_identifier(5, "abc", 4), "length"),
    ],
)
def test_impossible_capabilities_are_refused_by_field(make, field: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.field == field


def test_a_users_program_is_compiled_as_exactly_as_it_needs(file: str) -> None:
    hist = rasp_file.compile(f"{file}:hist", "ab", 12)
    assert hist.mlp_exactness == 200  # 12 * 13 = 156; 100 would be wrong from 10 on
    assert hist.calibration is not None
    assert hist.calibration.accuracy_before == 1
    assert hist.run(list("a" * 12))[1:] == [12] * 12


def test_numerical_causal_and_named_specials(file: str) -> None:
    capability = rasp_file.compile(f"{file}:fractions", "abc", 5, causal=True, bos="<s>", pad="<pad>")
    assert capability.classes is None
    assert capability.run(list("aba"))[1:] == pytest.approx([1, 1 / 2, 2 / 3], abs=1e-4)
    assert {"<s>", "<pad>"} < set(capability.vocabulary)


def test_a_program_may_be_a_name_of_the_module(file: str) -> None:
    assert rasp_file.compile(f"{file}:last", "abc", 4).run(list("abc"))[1:] == list("cba")


def test_an_edited_file_is_compiled_again(file: str, own_cache: Path) -> None:
    rasp_file.compile(f"{file}:hist", "ab", 3)
    rasp_file.compile(f"{file}:hist", "ab", 3)
    assert len(list((own_cache / "compiled").iterdir())) == 1
    Path(file).write_text(PROGRAMS.replace("lib.make_hist()", "lib.make_length()"))
    assert rasp_file.compile(f"{file}:hist", "ab", 3).run(list("ab"))[1:] == [2, 2]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_file.py:f", "no file"),
        ("{file}", "FILE.py:FUNCTION"),
        ("{file}:missing", "has no 'missing'"),
        ("{file}:three", "gives int"),
        ("{file}:selector", "gives a selector"),
        ("{file}:fails", "ZeroDivisionError"),
        ("{file}:wants", "argument"),
        ("{file}:refused", "Select keys must be categorical"),
        ("{file}:averages", "no answer for"),
    ],
)
def test_what_is_wrong_with_a_program_is_said_in_one_line(file: str, target: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        rasp_file.compile(target.format(file=file), [1, 2, 3], 5)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(InputError, match="SyntaxError"):
        rasp_file.compile(f"{tmp_path / 'broken.py'}:f", "ab", 3)


@pytest.mark.parametrize(
    ("vocabulary", "field"), [([], "vocabulary"), (["a", "BOS"], "bos"), ("aa", "vocabulary")]
)
def test_unusable_vocabularies_are_refused(file: str, vocabulary: list[str], field: str) -> None:
    with pytest.raises(InputError) as caught:
        rasp_file.compile(f"{file}:hist", vocabulary, 3)
    assert caught.value.field == field


def test_the_summary_says_what_was_compiled(counter: CompiledCapability, tmp_path: Path) -> None:
    text = summary(counter)
    assert f"{counter.model.parameter_count:,}" in text
    assert "categorical, 5 classes: 0 1 2 3 4, read position 2" in text
    for name in ("indices", "tokens", "is_target"):
        assert any(line.strip().startswith(name) for line in text.splitlines())
