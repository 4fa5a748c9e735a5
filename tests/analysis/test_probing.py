"""Probes find what is linearly there and nothing else, and the solver finds the one minimum."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from veneer.analysis import logistic, probing
from veneer.analysis.probing import ProbeData, ProbeSettings
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.pcfg.families import SampleLayout
from veneer.pcfg.operand_task import OperandTask
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding
from veneer.tasks.errors import InputError

TASK = Counter("abc", 4)
ENCODING = Encoding.between(TASK, ["#", "a", "b", "c", "BOS"], list(TASK.answers), "BOS", "#", 2)
PAPER = ProbeSettings("paper", iterations=300, learning_rate=1e-2, divided_after=(150, 225, 260))
LOGISTIC = ProbeSettings()
METHODS = pytest.mark.parametrize("settings", [PAPER, LOGISTIC], ids=["paper", "logistic"])


def fleet(members: int = 2) -> Transformer:
    model = Transformer(TransformerConfig(5, len(TASK.answers), 5, 6, 2, 1, 4, 5), members)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def planted(samples: int, seed: int) -> ProbeData:
    """Three classes that a direction of group 0 gives away and that group 1 knows nothing of."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(3, (samples,), generator=generator)
    features = torch.randn(2, samples, 8, generator=generator)
    features[0] = 0.3 * features[0] + 5
    features[0, :, 3] += classes
    features[0, :, 5] += classes == 1
    shuffled = classes[torch.randperm(samples, generator=generator)]
    return ProbeData(features, torch.stack([classes, shuffled]) + 10)


@METHODS
def test_a_planted_feature_is_found_and_shuffled_labels_are_not(settings: ProbeSettings) -> None:
    accuracy, _ = probing.fit(planted(600, 0), planted(1500, 1), settings)
    found, chance = accuracy[0, 0], accuracy.flatten(0, 1)[1:]
    assert (found > 0.93).all()
    assert (chance[:, 1] - 1 / 3).abs().max() < 4 * (2 / 9 / 1500) ** 0.5  # four standard errors
    assert (chance[:, 0] > chance[:, 1]).all()  # what little can be memorized


@METHODS
def test_scale_and_offset_of_features_make_no_difference(settings: ProbeSettings) -> None:
    train, test = planted(300, 0), planted(300, 1)
    stretch, offset = torch.logspace(-1, 1, 8), torch.linspace(-3, 3, 8)
    moved = [ProbeData(data.features * stretch + offset, data.labels) for data in (train, test)]
    plain, changed = probing.fit(train, test, settings)[0], probing.fit(*moved, settings)[0]
    assert (plain - changed).abs().max() < 0.01


def test_a_fleet_of_probes_is_its_probes_one_by_one() -> None:
    train, test = planted(200, 0), planted(200, 1)
    together = probing.fit(train, test, PAPER)[0]
    for group in range(2):
        for row in range(2):
            alone = [ProbeData(d.features[group : group + 1], d.labels[row : row + 1]) for d in (train, test)]
            assert (probing.fit(*alone, PAPER)[0][0, 0] - together[group, row]).abs().max() < 0.006


def test_one_update_is_that_of_torchs_layer_and_optimizer() -> None:
    """Two passes over a set that is one batch: the order then does not matter."""
    data = planted(96, 2)
    layer = torch.nn.Linear(8, 3)
    torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), 1e-2)
    for rate in (1e-2, 1e-3):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(data.features[0]), data.labels[0] - 10).backward()
        optimizer.step()
    found = logistic.train(
        data.features, data.labels - 10, 3, 7, iterations=2, batch=96, learning_rate=1e-2, divided_after=(1,)
    )[0, :, 0]
    assert torch.allclose(found[:-1], layer.weight.T, atol=1e-5)
    assert torch.allclose(found[-1], layer.bias, atol=1e-5)


def test_the_solver_agrees_with_scipy() -> None:
    """Correlated, redundant features; a class that one label set lacks has no part in it."""
    data = planted(150, 3)
    features = torch.cat([data.features, data.features[..., :2] + data.features[..., 2:4]], -1)
    features = features - features.mean(1, keepdim=True)
    labels = torch.stack([data.labels[0] - 10, (data.labels[1] - 10) * 2])
    labels[1][labels[1] == 4] = 3
    penalty = 1e-2
    weights, converged = logistic.solve(features, labels, 4, penalty, tolerance=1e-6)
    assert converged.all()
    for group in range(2):
        for row in range(2):
            present = labels[row].unique()
            x, y = features[group].double().numpy(), torch.searchsorted(present, labels[row]).numpy()

            def loss(flat: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> tuple[float, np.ndarray]:
                w, b = flat[:-3].reshape(10, 3), flat[-3:]
                logits = x @ w + b
                p = np.exp(logits - logits.max(1, keepdims=True))
                p /= p.sum(1, keepdims=True)
                error = (p - np.eye(3)[y]) / len(y)
                gradient = np.concatenate([(x.T @ error + penalty * w).ravel(), error.sum(0)])
                return -np.log(p[np.arange(len(y)), y]).mean() + penalty / 2 * (w**2).sum(), gradient

            options = {"maxiter": 3000, "ftol": 1e-15, "gtol": 1e-9}
            best = minimize(loss, np.zeros(33), jac=True, method="L-BFGS-B", options=options)
            ours = weights[group, :, row][:, present].numpy()
            assert loss(ours.ravel())[0] == pytest.approx(best.fun, abs=1e-8)
            assert np.abs(ours[:-1] - best.x[:-3].reshape(10, 3)).max() < 1e-3


@METHODS
def test_the_table_has_a_row_per_probe(settings: ProbeSettings) -> None:
    small = ProbeSettings(settings.method, train=300, test=400, iterations=50, batch=32, divided_after=(25,))
    table = probing.probe(fleet(), TASK, ENCODING, small)
    assert table.height == 2 * 3 * 2 * 2
    assert table.select("member", "residual", "target", "labels").is_unique().all()
    assert set(table["method"]) == {settings.method}
    assert table["accuracy"].is_between(0, 1).all()
    chosen = probing.selectivity(table)
    assert chosen.height == 12
    first = table.row(0, named=True), table.row(1, named=True)
    assert (first[0]["labels"], first[1]["labels"]) == ("real", "control")
    assert chosen["selectivity"][0] == pytest.approx(first[0]["accuracy"] - first[1]["accuracy"])


def test_a_count_that_is_in_the_residual_stream_is_read_from_where_it_is_written() -> None:
    """Block 0 averages the letters (uniform attention): a is linear in that, not in the embedding."""
    model = fleet(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.token_embedding[:, :5, :5] = torch.eye(5)
        model.blocks[0].value.weight[0, 1:3, :2] = torch.eye(2)  # of a and of b
        model.blocks[0].output.weight[0, [0, 1], [0, 5]] = 3.0  # to two directions of their own
    table = probing.probe(model, TASK, ENCODING, ProbeSettings(train=800, test=800, penalty=1e-4))
    real = probing.selectivity(table)
    after = real.filter(real["residual"] > 0)
    before = real.filter(real["residual"] == 0)
    assert (after["accuracy"] > 0.95).all() and (after["selectivity"] > 0.5).all()
    assert (before["accuracy"] < 0.75).all()
    assert set(table["target"]) == {"pt", "ft"}
    assert table["converged"].all()


def test_the_operand_asked_for_is_probed_where_the_input_names_it() -> None:
    layout = SampleLayout(window=12, count_last=8, occurrence=2, token_back=3)
    task = OperandTask(layout)
    model = Transformer(TransformerConfig.gpt(len(layout.vocabulary), layout.length, 8, 1, 2), 1)
    with torch.no_grad():
        asked = [layout.id["?a"], layout.id["?b"]]
        model.token_embedding[0, asked] = torch.tensor([[1.0] * 8, [2.0] * 8])
    seen: list[float] = []
    for operand in ("pt", "ft"):
        mixture = probing.Mixture((probing.Component(1.0, "natural", operand, operand),))
        batch = probing.texts.draw(task, task.encoding, mixture, 5, torch.device("cpu"), "t")
        seen.append(float(probing.residuals(model, batch.tokens[0], 2)[0, 0, 0, 0]))
    assert seen == [1.0, 2.0]
    table = probing.probe(model, task, task.encoding, ProbeSettings(train=200, test=100))
    assert table.height == 2 * 2 * 2
    # At ART all inputs look alike to a model of zeros: nothing but the commonest answer is to be had.
    assert table["accuracy"].to_list() == pytest.approx(table["majority"].to_list())


def test_training_and_test_texts_differ_and_orders_repeat() -> None:
    settings = ProbeSettings(train=50, test=50)
    first, again = (probing.probe(fleet(1), TASK, ENCODING, settings) for _ in range(2))
    assert first.equals(again)
    assert probing.TRAIN != probing.TEST


def test_a_diverged_member_is_named() -> None:
    model = fleet(3)
    with torch.no_grad():
        model.blocks[1].mlp_out.bias[2] = torch.inf
    with pytest.raises(InputError, match="diverged") as refused:
        probing.probe(model, TASK, ENCODING, ProbeSettings(train=20, test=20))
    assert refused.value.value == [2]


@pytest.mark.parametrize(
    ("field", "value"),
    [("train", 0), ("batch", 0), ("penalty", 0.0), ("learning_rate", float("nan"))],
)
def test_settings_that_cannot_be_used_are_refused(field: str, value: object) -> None:
    with pytest.raises(InputError) as refused:
        ProbeSettings(**{field: value})
    assert refused.value.field == field
