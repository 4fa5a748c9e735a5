"""The one Transformer computes what its definition says, in every configuration and for every member."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer

COMPILED = TransformerConfig(
    vocabulary=7, classes=3, positions=6, width=10, blocks=2, heads=3, key_size=4, mlp_width=9
)
GPT = TransformerConfig.gpt(vocabulary=8, positions=6, width=12, blocks=3, heads=2)
CONFIGS = {
    "compiled": COMPILED,
    "gpt": GPT,
    "compiled, causal": replace(COMPILED, causal=True),
    "compiled, one block": replace(COMPILED, blocks=1),
    "compiled, one class": replace(COMPILED, classes=1),
    "gpt, one block": replace(GPT, blocks=1),
    "gpt, both directions": replace(GPT, causal=False),
    "gpt of free sizes": replace(GPT, key_size=5, mlp_width=7, classes=4),
    "no blocks": replace(GPT, blocks=0),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
WITH_BLOCKS = {name: config for name, config in CONFIGS.items() if config.blocks > 0}
every_config_with_blocks = pytest.mark.parametrize("config", WITH_BLOCKS.values(), ids=WITH_BLOCKS.keys())
both_kinds = pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
EXACT = 1e-12


def randomized(
    config: TransformerConfig, members: int = 1, dtype: torch.dtype = torch.float64
) -> Transformer:
    """Random in every parameter, biases and norms included; each member has its own."""
    model = Transformer(config, members).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model


def some_tokens(config: TransformerConfig, members: int = 1, length: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(config.vocabulary, (members, 3, length or config.positions), generator=generator)


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())


# An independent implementation, for one string and one model: loops over positions and heads, weights
# out of the state dictionary by name, every sum and exponential written out.


def plain_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = sum(x) / len(x)
    variance = sum((x - mean) ** 2) / len(x)
    return (x - mean) / (variance + 1e-5) ** 0.5 * weight + bias


def plain_activation(x: Tensor, kind: str) -> Tensor:
    if kind == "relu":
        return torch.where(x > 0, x, 0)
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def plain_softmax(scores: list[Tensor]) -> list[Tensor]:
    exponentials = [torch.exp(score - max(scores)) for score in scores]
    return [e / sum(exponentials) for e in exponentials]


def plain_transformer(model: Transformer, tokens: list[int]) -> dict[str, list[Tensor]]:
    """Logits and activations of one string, each a list over positions; patterns over heads."""
    config, w = model.config, {name: value[0] for name, value in model.state_dict().items()}

    def apply(layer: str, x: Tensor) -> Tensor:
        return w[f"{layer}.weight"].T @ x + w[f"{layer}.bias"]

    def norm(layer: str, x: Tensor) -> Tensor:
        if config.normalization == "none":
            return x
        return plain_norm(x, w[f"{layer}.weight"], w[f"{layer}.bias"])

    stream = [w["token_embedding"][token] + w["position_embedding"][i] for i, token in enumerate(tokens)]
    seen: dict[str, list[Tensor]] = {"residual.0": stream}
    for b in range(config.blocks):
        normed = [norm(f"blocks.{b}.norm_attention", x) for x in stream]
        q, k, v = (
            [apply(f"blocks.{b}.{part}", x).split(config.key_size) for x in normed]
            for part in ("query", "key", "value")
        )
        patterns = [torch.zeros(len(tokens), len(tokens), dtype=torch.float64) for _ in range(config.heads)]
        attended = []
        for i in range(len(tokens)):
            visible = range(i + 1) if config.causal else range(len(tokens))
            mixed = []
            for h in range(config.heads):
                weights = plain_softmax([q[i][h] @ k[j][h] / math.sqrt(config.key_size) for j in visible])
                mixed.append(sum(weight * v[j][h] for weight, j in zip(weights, visible, strict=True)))
                for weight, j in zip(weights, visible, strict=True):
                    patterns[h][i, j] = weight
            attended.append(stream[i] + apply(f"blocks.{b}.output", torch.cat(mixed)))
        hidden = [
            plain_activation(apply(f"blocks.{b}.mlp_in", norm(f"blocks.{b}.norm_mlp", x)), config.activation)
            for x in attended
        ]
        stream = [x + apply(f"blocks.{b}.mlp_out", y) for x, y in zip(attended, hidden, strict=True)]
        seen |= {f"attention.{b}": patterns, f"mlp.{b}": hidden, f"residual.{b + 1}": stream}
    seen["logits"] = [w["unembedding"].T @ norm("norm_final", x) for x in stream]
    return seen


def every_activation(config: TransformerConfig) -> list[str]:
    per_block = [f"{kind}.{i}" for i in range(config.blocks) for kind in ("attention", "mlp")]
    return [f"residual.{i}" for i in range(config.blocks + 1)] + per_block


@every_config
@pytest.mark.parametrize("length", [6, 4, 1])
def test_logits_and_activations_are_those_of_a_plain_implementation(
    config: TransformerConfig, length: int
) -> None:
    model, tokens = randomized(config), some_tokens(config, length=length)
    output, captured = model(tokens), model(tokens, capture=every_activation(config))
    assert captured.captured.keys() == set(every_activation(config))
    for i, string in enumerate(tokens[0].tolist()):
        expected = {name: torch.stack(values) for name, values in plain_transformer(model, string).items()}
        assert difference(output.logits[0, i], expected["logits"]) < EXACT
        assert difference(captured.logits[0, i], expected["logits"]) < EXACT
        for name, value in captured.captured.items():
            assert difference(value[0, i], expected[name]) < EXACT, name


@every_config_with_blocks
@pytest.mark.parametrize("answer", [0, 2, 5])
@pytest.mark.parametrize("capture", [(), ("mlp.0",)], ids=["", "captured"])
def test_the_answer_alone_is_the_answer_among_all(
    config: TransformerConfig, answer: int, capture: tuple[str, ...]
) -> None:
    model, tokens = randomized(config, members=2), some_tokens(config, members=2)
    alone = model(tokens, answer=answer, capture=capture).logits
    assert difference(alone, model(tokens).logits[:, :, answer]) < EXACT


@every_config_with_blocks
@pytest.mark.parametrize("answer", [0, 2, 5])
def test_the_answer_alone_has_the_gradients_of_the_answer_among_all(
    config: TransformerConfig, answer: int
) -> None:
    model, tokens = randomized(config, members=2), some_tokens(config, members=2)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def gradients(logits: Tensor) -> tuple[Tensor | None, ...]:
        weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view(logits.shape)
        return torch.autograd.grad((logits.sin() * weights).sum(), trained, allow_unused=True)

    alone = gradients(model(tokens, answer=answer).logits)
    among_all = gradients(model(tokens).logits[:, :, answer])
    for parameter, a, b in zip(trained, alone, among_all, strict=True):
        zero = torch.zeros_like(parameter)
        assert difference(zero if a is None else a, zero if b is None else b) < 1e-11


@every_config_with_blocks
@pytest.mark.parametrize("answer", [None, 3])
def test_a_member_of_a_fleet_computes_what_it_computes_alone(
    config: TransformerConfig, answer: int | None
) -> None:
    fleet, tokens = randomized(config, members=4), some_tokens(config, members=4)
    together = fleet(tokens, answer=answer).logits
    for i in range(4):
        alone = fleet.member(i)(tokens[i : i + 1], answer=answer).logits
        assert difference(alone[0], together[i]) < EXACT
    assert difference(together[0], together[1]) > 0.1


@both_kinds
@pytest.mark.parametrize("answer", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_broken_member_leaves_the_others_bit_identical(
    config: TransformerConfig, answer: int | None, dtype: torch.dtype
) -> None:
    healthy, broken = (randomized(config, members=3, dtype=dtype) for _ in range(2))
    with torch.no_grad():
        for i, parameter in enumerate(broken.parameters()):
            parameter[1] = torch.nan if i % 2 else torch.inf
    tokens = some_tokens(config, members=3)
    outputs = [model(tokens, answer=answer).logits for model in (healthy, broken)]
    assert outputs[1][1].isnan().all()
    assert torch.equal(outputs[0][[0, 2]], outputs[1][[0, 2]])
    for output in outputs:
        (output**2).sum().backward()
    for a, b in zip(healthy.parameters(), broken.parameters(), strict=True):
        if a.requires_grad:
            assert (a.grad is None) == (b.grad is None)
            assert a.grad is None or b.grad is None or torch.equal(a.grad[[0, 2]], b.grad[[0, 2]])


@every_config
def test_patterns_are_distributions_over_what_can_be_seen(config: TransformerConfig) -> None:
    model, tokens = randomized(config), some_tokens(config)
    names = [f"attention.{i}" for i in range(config.blocks)]
    for pattern in model(tokens, capture=names).captured.values():
        assert pattern.shape == (1, 3, config.heads, 6, 6)
        assert difference(pattern.sum(-1), torch.ones(pattern.shape[:-1], dtype=torch.float64)) < EXACT
        future = torch.ones(6, 6, dtype=torch.bool).triu(1)
        assert bool((pattern[..., future] == 0).all()) == config.causal


@both_kinds
def test_the_stream_starts_as_the_embedding(config: TransformerConfig) -> None:
    model, tokens = randomized(config, members=2), some_tokens(config, members=2)
    start = model(tokens, capture=["residual.0"]).captured["residual.0"]
    looked_up = [model.token_embedding[m][tokens[m]] + model.position_embedding[m] for m in range(2)]
    assert difference(start, torch.stack(looked_up)) < EXACT


@both_kinds
@pytest.mark.parametrize("answer", [None, 3])
def test_looking_changes_nothing(config: TransformerConfig, answer: int | None) -> None:
    """Only the named activations come, and the logits stay: the same bits unless patterns are wanted.

    Patterns are made by another kernel than the fused one, which rounds otherwise.
    """
    model, tokens = randomized(config, members=2), some_tokens(config, members=2)
    plain = model(tokens, answer=answer).logits
    for name in every_activation(config):
        seen = model(tokens, answer=answer, capture=[name])
        assert list(seen.captured) == [name]
        assert difference(seen.logits, plain) < EXACT
        if answer is None and not name.startswith("attention"):
            assert torch.equal(seen.logits, plain)


@both_kinds
def test_only_a_causal_model_is_blind_to_later_tokens(config: TransformerConfig) -> None:
    model, tokens = randomized(config), some_tokens(config)
    changed = tokens.clone()
    changed[:, :, 4:] = (changed[:, :, 4:] + 1) % config.vocabulary
    before, after = model(tokens).logits[:, :, :4], model(changed).logits[:, :, :4]
    assert (difference(before, after) < EXACT) == config.causal
    answers = [model(some, answer=3).logits for some in (tokens, changed)]
    assert (difference(*answers) < EXACT) == config.causal


@both_kinds
def test_strings_of_a_batch_do_not_see_each_other(config: TransformerConfig) -> None:
    model, tokens = randomized(config), some_tokens(config)
    for i in range(3):
        assert difference(model(tokens[:, i : i + 1]).logits[:, 0], model(tokens).logits[:, i]) < EXACT


@both_kinds
def test_select_and_gather_undo_each_other(config: TransformerConfig) -> None:
    fleet = randomized(config, members=4)
    parts = [fleet.select([2, 0]), fleet.member(3), fleet.select([1, 1])]
    gathered = Transformer.gather(parts)
    assert gathered.members == 5
    for name, value in fleet.state_dict().items():
        assert torch.equal(gathered.state_dict()[name], value[[2, 0, 3, 1, 1]])
        assert gathered.state_dict()[name].dtype == value.dtype
    trained = {name: parameter.requires_grad for name, parameter in fleet.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in gathered.named_parameters()} == trained


def test_selected_members_are_copies() -> None:
    fleet = randomized(COMPILED, members=2)
    before = fleet.token_embedding.clone()
    with torch.no_grad():
        fleet.member(1).token_embedding.zero_()
    assert torch.equal(fleet.token_embedding, before)


def test_models_of_different_shapes_form_no_fleet() -> None:
    with pytest.raises(ValueError, match="one shape"):
        Transformer.gather([Transformer(COMPILED), Transformer(replace(COMPILED, causal=True))])


def test_only_a_trained_unembedding_is_trained() -> None:
    """Tracr's model has no unembedding parameter, so fine-tuning never moves it."""
    assert not Transformer(COMPILED).unembedding.requires_grad
    assert Transformer(replace(COMPILED, unembedding="trained")).unembedding.requires_grad
    assert Transformer(GPT).unembedding.requires_grad


def test_parameters_are_counted_per_member() -> None:
    embeddings = 7 * 10 + 6 * 10
    attention = 3 * (10 * 12 + 12) + 12 * 10 + 10
    mlp = 10 * 9 + 9 + 9 * 10 + 10
    expected = embeddings + 2 * (attention + mlp)
    assert Transformer(COMPILED, members=5).parameter_count == expected
    trained = replace(COMPILED, unembedding="trained")
    assert Transformer(trained).parameter_count == expected + 10 * 3


def test_gpt_has_mingpts_proportions() -> None:
    """minGPT's gpt-nano (48 wide, 3 blocks, 3 heads), whose model file gives each of these sizes."""
    config = TransformerConfig.gpt(vocabulary=50, positions=20, width=48, blocks=3, heads=3)
    assert (config.key_size, config.mlp_width, config.classes) == (16, 192, 50)
    assert (config.causal, config.normalization, config.activation) == (True, "pre", "gelu")
    block = 12 * 48**2 + 13 * 48
    assert Transformer(config).parameter_count == 50 * 48 + 20 * 48 + 3 * block + 2 * 48 + 48 * 50
