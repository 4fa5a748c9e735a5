"""Methods: each does what its paper defines, alone and in a fleet, and a user's own does what it says."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from veneer.finetune.cell import Cell, Origin, Stage, plan
from veneer.finetune.fleet import EVALUATED, Evaluation, FleetJob, Member
from veneer.finetune.method import FullFineTuning, Method, Step
from veneer.finetune.methods import (
    GradientAscent,
    GradientDifference,
    LastBlock,
    LowRank,
    TowardsStart,
    load_method,
)
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import Trained, train
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import OPERANDS, fine_tuning

TASK = Counter("abcd", 5)
ENCODING = Encoding.between(TASK, ("BOS", *"abcd", "#"), range(6), "BOS", "#", 2)
COMPILED = TransformerConfig(
    vocabulary=6, classes=6, positions=6, width=8, blocks=2, heads=2, key_size=3, mlp_width=10
)
GPT = replace(COMPILED, causal=True, normalization="pre", activation="gelu", unembedding="trained")
MEMBERS = [Member(fine_tuning(c), 1e-2, seed) for seed, c in enumerate((1.0, 0.5))]
NATURAL, PT, FT = EVALUATED.index("natural"), OPERANDS.index("pt"), OPERANDS.index("ft")
ALL = (
    FullFineTuning(),
    LastBlock(),
    LowRank(2),
    TowardsStart(0.1),
    GradientAscent(),
    GradientDifference(0.5),
)


def started(
    config: TransformerConfig = GPT, members: int = 2, dtype: torch.dtype = torch.float32
) -> Transformer:
    generator = torch.Generator().manual_seed(5)
    model = Transformer(config, members).to(dtype)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = (parameter.data + 0.2 * drawn).to(dtype)
    return model


def job(
    method: Method,
    iterations: int = 12,
    model: Transformer | None = None,
    members: list[Member] = MEMBERS,
    clip: float | None = 1.0,
    **settings: object,
) -> FleetJob:
    recipe = Recipe("adamw", 1.0, iterations, batch=16, clip=clip)
    model = started() if model is None else model
    measured = Evaluation(40, (0, iterations))
    return FleetJob(model, members, recipe, TASK, ENCODING, "fine-tune", measured, method=method, **settings)  # pyright: ignore[reportArgumentType]


def changes(trained: Trained, before: Transformer) -> dict[str, Tensor]:
    after = trained.model.state_dict()
    return {name: after[name] - value for name, value in before.state_dict().items()}


def weights(model: Transformer) -> Tensor:
    return torch.cat([value.flatten(1) for _, value in sorted(model.state_dict().items())], 1)


def test_only_the_last_block_moves_and_all_of_it_does() -> None:
    for name, change in changes(train(job(LastBlock())), started()).items():
        unused = name == "blocks.1.key.bias"  # the same for all keys, so that it changes nothing
        assert bool(change.any()) == (name.startswith("blocks.1.") and not unused), name


def test_a_low_rank_change_has_at_most_the_rank_and_touches_matrices_of_blocks_alone() -> None:
    trained = train(job(LowRank(2, alpha=3.0)))
    for name, change in changes(trained, started()).items():
        adapted = name.startswith("blocks.") and name.endswith("weight") and "norm" not in name
        assert bool(change.any()) == adapted, name
        if adapted:
            values = torch.linalg.svdvals(change.double())
            assert (values[:, 2:] < 1e-5 * values[:, :1]).all()
            assert (values[:, 1] > 1e-3 * values[:, 0]).all()


def test_a_low_rank_change_begins_as_none() -> None:
    first = job(LowRank(2))
    before = first.evaluate()
    first.prepare()
    assert torch.equal(first.evaluate()[1], before[1])
    assert torch.equal(weights(first.finish()), weights(started()))


def test_scale_of_a_low_rank_change_is_alpha_over_rank() -> None:
    """With B set by hand the merged weight is W + alpha / rank A B, for every member by its own seed."""
    first = job(LowRank(2, alpha=5.0))
    first.prepare()
    change = first.model.blocks[1].mlp_in.parametrizations.weight[0]  # pyright: ignore
    change.up.data.fill_(0.3)
    down = change.down.detach().clone()
    assert not torch.equal(down[0], down[1])
    merged = first.finish().state_dict()["blocks.1.mlp_in.weight"]
    expected = started().state_dict()["blocks.1.mlp_in.weight"] + 2.5 * down @ torch.full((2, 2, 10), 0.3)
    torch.testing.assert_close(merged, expected)


def test_merged_models_are_ordinary_ones() -> None:
    for method in ALL:
        after, before = train(job(method)).model, started()
        assert [name for name, _ in after.named_parameters()] == [n for n, _ in before.named_parameters()]
        assert [p.requires_grad for p in after.parameters()] == [p.requires_grad for p in before.parameters()]
        assert after.parameter_count == before.parameter_count


def test_a_rank_above_a_matrix_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        train(job(LowRank(7)))
    assert (refused.value.field, refused.value.value, refused.value.valid) == ("rank", 7, "1 to 6")


@dataclass(frozen=True)
class Whole(FullFineTuning):
    """Ordinary fine-tuning whose batches are not cut into slices, as those of other losses are not."""

    @property
    def is_mean_over_samples(self) -> bool:
        return False


def test_a_strong_spring_holds_at_the_start_and_none_is_ordinary_fine_tuning() -> None:
    def moved(method: Method) -> Tensor:
        sgd = replace(job(method, 40, clip=None), recipe=Recipe("sgd", 1.0, 40, batch=16, clip=None))
        return weights(train(sgd).model) - weights(started())

    free, held = moved(Whole()), moved(TowardsStart(100.0))
    assert torch.equal(moved(TowardsStart(0.0)), free)
    assert (held.norm(dim=1) < 0.1 * free.norm(dim=1)).all()
    assert (held.norm(dim=1) > 0).all()


def test_the_spring_is_half_the_strength_times_the_squared_distance() -> None:
    sprung, plain = job(TowardsStart(3.0)), job(FullFineTuning())
    batch = next(sprung.batches(0))
    _ = sprung.loss(batch)  # the start is the model before anything moved
    for each in (sprung.model, plain.model):
        each.blocks[0].mlp_in.bias.data[1] += 0.5  # pyright: ignore
    extra = sprung.loss(batch) - plain.loss(batch)
    torch.testing.assert_close(extra, torch.tensor([0.0, 0.5 * 3.0 * 10 * 0.25]), rtol=1e-5, atol=1e-6)


def test_ascent_raises_the_loss_on_the_old_capability_and_ends_near_its_ceiling() -> None:
    guess = torch.tensor(6.0).log().item()
    low, high, endless = (train(job(GradientAscent(c), 60)).loss for c in (1.5, 3.0, None))
    assert (high[-1, :, NATURAL, PT] > high[0, :, NATURAL, PT] + 1.0).all()
    assert (low[-1, :, NATURAL, PT] < high[-1, :, NATURAL, PT]).all()
    assert (endless[-1, :, NATURAL, PT] > 3.0 * guess).all()


def test_above_its_ceiling_ascent_gives_no_gradient() -> None:
    above = job(GradientAscent(1e-3))
    (gradient,) = torch.autograd.grad(
        above.loss(next(above.batches(0))).sum(), above.model.unembedding, materialize_grads=True
    )
    assert not gradient.any()


def test_endless_ascent_is_marked_with_the_step_at_which_it_diverged() -> None:
    wild = [MEMBERS[0], replace(MEMBERS[1], learning_rate=1e30)]
    trained = train(job(GradientAscent(None), 20, started(COMPILED), wild))
    assert trained.diverged_at[0] == -1
    assert trained.diverged_at[1] >= 0
    assert trained.model.token_embedding.isfinite().all()


def test_difference_learns_the_new_capability_while_the_old_one_goes() -> None:
    correlated = EVALUATED.index("correlated")
    loss = train(job(GradientDifference(0.5), 60)).loss
    assert (loss[-1, 0, correlated, FT] < loss[0, 0, correlated, FT] - 0.3).all()
    assert (loss[-1, :, NATURAL, PT] > loss[0, :, NATURAL, PT] + 0.3).all()


def test_difference_of_weight_zero_is_ordinary_fine_tuning() -> None:
    ours, ordinary = train(job(GradientDifference(0.0))), train(job(Whole()))
    assert torch.equal(weights(ours.model), weights(ordinary.model))


@pytest.mark.parametrize("method", ALL, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_members_do_not_mix(method: Method, dtype: torch.dtype, tolerance: float) -> None:
    def sgd(model: Transformer, members: list[Member]) -> Trained:
        return train(
            replace(job(method, 8, model, members), recipe=Recipe("sgd", 1.0, 8, batch=16), members=members)
        )

    together = sgd(started(COMPILED, dtype=dtype), MEMBERS)
    for i, member in enumerate(MEMBERS):
        alone = sgd(started(COMPILED, dtype=dtype).member(i), [member])
        close = {"rtol": tolerance, "atol": tolerance}
        torch.testing.assert_close(weights(together.model)[i], weights(alone.model)[0], **close)
        torch.testing.assert_close(together.loss[:, i], alone.loss[:, 0], **close)


class Killed(Exception):
    """Stands for whatever ends a process."""


def killed_at(step: int) -> Callable[[int], None]:
    def progress(done: int) -> None:
        if done == step:
            raise Killed

    return progress


@pytest.mark.parametrize("method", [LowRank(2), TowardsStart(0.1), GradientDifference()], ids=str)
def test_training_goes_on_bit_for_bit(method: Method, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    whole = train(job(method))
    for step in (4, 9):
        with pytest.raises(Killed):
            train(job(method, checkpoint=state, checkpoint_seconds=-1.0, progress=killed_at(step)))
    rest = train(job(method, checkpoint=state, checkpoint_seconds=-1.0))
    assert torch.equal(weights(rest.model), weights(whole.model))
    assert torch.equal(rest.loss, whole.loss)
    assert torch.equal(rest.train_loss[1:], whole.train_loss[1:])


def test_old_texts_ask_for_the_old_capability_and_are_no_training_texts() -> None:
    seen: list[Step] = []

    @dataclass(frozen=True)
    class Looks(Method):
        def loss(self, step: Step) -> Tensor:
            seen.append(step)
            return super().loss(step)

    train(job(Looks(), 3))
    old = [step.old() for step in seen]
    assert all(torch.equal(batch.labels, batch.results[..., PT]) for batch in old)
    assert torch.equal(old[1].tokens, seen[1].old().tokens)
    assert not torch.equal(old[0].tokens, old[1].tokens)
    assert not torch.equal(old[0].tokens[0], old[0].tokens[1])
    assert old[0].tokens.shape == seen[0].batch.tokens.shape
    assert [step.number for step in seen] == [0, 1, 2]
    assert torch.equal(weights(seen[2].start), weights(started()))


@dataclass(frozen=True)
class StayClose(Method):
    weight: float = 1.0

    def loss(self, step: Step) -> Tensor:
        old = step.old()
        before = step.logits(old, step.start).log_softmax(-1).detach()
        now = step.logits(old).log_softmax(-1)
        far = F.kl_div(now, before, log_target=True, reduction="none").sum(-1).mean(1)
        return step.cross_entropy(step.batch) + self.weight * far


def test_a_users_method_does_what_it_says() -> None:
    free, close = (train(job(StayClose(w), 40)).loss[:, :, NATURAL, PT] for w in (0.0, 30.0))
    assert ((close[1] - close[0]).abs() < 0.3 * (free[1] - free[0]).abs()).all()


def test_a_loss_that_mixes_members_or_a_method_that_trains_nothing_is_refused() -> None:
    class Mixes(Method):
        def loss(self, step: Step) -> Tensor:
            return step.cross_entropy(step.batch).mean()

    class Freezes(Method):
        def prepare(self, model: Transformer, seeds: list[int]) -> None:
            model.requires_grad_(False)

    for method, valid in ((Mixes(), "a loss for each"), (Freezes(), "a parameter to train")):
        with pytest.raises(InputError, match=valid) as refused:
            train(job(method))
        assert refused.value.field == "method"


def cell(method: Method, seed: int = 0) -> Cell:
    stage = Stage("fine-tune", fine_tuning(1.0), Recipe("sgd", 0.1, 10), method)
    return Cell(Origin("one", "compiled", 0.1, seed), TASK, stage, Evaluation(10, (0, 10)), seed)


def test_a_method_is_part_of_what_a_cell_is_and_fleets_have_one() -> None:
    methods = [*ALL, LowRank(3), GradientAscent(None), StayClose(), StayClose(2.0)]
    cells = [cell(method, seed) for method in methods for seed in range(2)]
    assert len({each.id for each in cells}) == len(cells)
    assert cell(LowRank(2)).id == cell(LowRank(2)).id
    assert cell(LowRank(2)).describe()["stage"]["method"] == {"type": "LowRank", "rank": 2, "alpha": None}
    fleets = plan(cells, 8)
    assert [len(fleet.cells) for fleet in fleets] == [2] * len(methods)
    assert all(len({each.stage.method for each in fleet.cells}) == 1 for fleet in fleets)


@pytest.mark.parametrize(
    ("spec", "method"),
    [
        ("full", FullFineTuning()),
        ("last-block", LastBlock()),
        ("lora:8", LowRank(8)),
        ("lora:8:16", LowRank(8, 16.0)),
        ("l2-sp:0.01", TowardsStart(0.01)),
        ("ascent", GradientAscent()),
        ("ascent:1.5", GradientAscent(1.5)),
        ("difference:0.5", GradientDifference(0.5)),
    ],
)
def test_methods_have_short_names(spec: str, method: Method) -> None:
    assert load_method(spec) == method


MINE = """
from __future__ import annotations
from dataclasses import dataclass
from veneer.finetune.method import Method

@dataclass(frozen=True)
class Mine(Method):
    weight: float = 2.0

@dataclass(frozen=True)
class Needy(Method):
    weight: float

small = Needy(0.5)
number = 3
"""


def test_a_method_comes_from_a_users_file_and_changes_with_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    one = load_method(f"{file}:Mine")
    assert load_method(f"{file}:Mine") == one
    assert load_method(f"{file}:small").describe()["weight"] == 0.5
    described = one.describe()
    assert (described["type"], described["weight"], len(described["source"])) == ("Mine", 2.0, 16)
    file.write_text(MINE.replace("number = 3", "number = 4"))
    assert load_method(f"{file}:Mine").describe()["source"] != described["source"]
    assert load_method("full").describe() == {"type": "FullFineTuning"}


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("lorax", "last-block"),
        ("full:3", "no numbers"),
        ("lora:many", "many"),
        ("lora:2:3:4", "2 numbers"),
        ("FILE:Absent", "a subclass or an instance of Method"),
        ("FILE:number", "a subclass or an instance of Method"),
        ("FILE:Needy", "needs weight"),
        ("absent.py:Mine", "No such file"),
        ("BROKEN:Mine", "broken.py line 1: SyntaxError"),
        ("FILE", "FILE.py:NAME"),
    ],
)
def test_what_is_no_method_is_refused_with_what_would_be(spec: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("class (")
    spec = spec.replace("FILE", str(tmp_path / "mine.py")).replace("BROKEN", str(tmp_path / "broken.py"))
    with pytest.raises(InputError, match=hint) as refused:
        load_method(spec)
    assert (refused.value.field, refused.value.value) == ("method", spec)


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("rank", lambda: LowRank(0)),
        ("alpha", lambda: LowRank(2, float("nan"))),
        ("strength", lambda: TowardsStart(-1.0)),
        ("ceiling", lambda: GradientAscent(0.0)),
        ("weight", lambda: GradientDifference(float("inf"))),
        ("ceiling", lambda: GradientDifference(1.0, -1.0)),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, make: Callable[[], Method]) -> None:
    with pytest.raises(InputError) as refused:
        make()
    assert refused.value.field == field
