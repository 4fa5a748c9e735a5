"""veneer run cddm: what arms share, what is compared and when it is void, bad input, a whole small run."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tests.experiments.made_up_decisions import PAPER, made_up
from veneer.analysis.ablation import Part
from veneer.analysis.text_ablation import text_ablation_effects, text_loss_effects
from veneer.commands.main import main
from veneer.experiments.cddm import work as cddm_work
from veneer.experiments.cddm.evidence import MATCHED, Measured
from veneer.experiments.cddm.look import States, units
from veneer.experiments.cddm.prompts import TOKENS, encoded, scores
from veneer.experiments.cddm.result import comparisons, conclude, rows
from veneer.experiments.cddm.settings import ARMS, Arm, Decisions, DecisionTrial
from veneer.experiments.cddm.store import LOOKS, DecisionsRun
from veneer.experiments.cddm.work import HELD_OUT, Workshop, ordinary, work
from veneer.finetune.checkpoint import load_state
from veneer.language.attacks import permuted
from veneer.language.cddm import TEMPLATES, trials
from veneer.language.encoding import encode_questions
from veneer.language.fresh import Shape, fresh_llama
from veneer.language.numbers import KEPT, number_texts
from veneer.language.stories.models import ready
from veneer.models.loading import load_tokenizer
from veneer.report.cddm_page import render
from veneer.tasks.errors import InputError

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "updates": 4,
    "every": 2,
    "batch": 4,
    "trials": 64,
    "checked": 16,
    "looked": 64,
    "ablated": 16,
    "generic": 2,
    "embeddings": ("pca",),
    "seeds": 1,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base of two blocks that knows nothing, with the tokenizer of the ready one."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = load_tokenizer(ready("numbers"))
    fresh_llama(Shape(len(tokenizer), 16, 2, 2, 24, 512), tokenizer, 3).module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def call(*words: str) -> int:
    try:
        main([*words, "--quiet"])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def options(**more: Any) -> list[str]:
    found = []
    for name, value in {**SMALL, **more}.items():
        found += [f"--{name}", *(value if isinstance(value, tuple) else [str(value)])]
    return found


def test_named_tokens_hold_what_they_are_named_after() -> None:
    tokenizer = load_tokenizer(ready("numbers"))
    for template in TEMPLATES:
        asked = list(trials(16, templates=(template,)))
        prompts = encoded(tokenizer, asked)
        for row, trial in enumerate(asked):
            own = dict(zip(TOKENS, prompts.places[row].tolist(), strict=True))
            read = [
                tokenizer.decode(prompts.tokens[row, : own[name] + 1])
                for name in ("context", "relevant 1", "relevant 2", "irrelevant 1", "irrelevant 2")
            ]
            left, right = trial.relevant
            others = trial.color if trial.context == "motion" else trial.motion
            wanted = (trial.context, left, right, *others)
            assert all(text.lower().endswith(str(want)) for text, want in zip(read, wanted, strict=True)), (
                read
            )
            assert own["last"] == int(prompts.at[row])
            assert tokenizer.decode([int(prompts.labels[row])]).strip() == trial.choice


def test_prompts_that_are_alike_have_numbers_in_the_same_places() -> None:
    same = encoded(load_tokenizer(ready("numbers")), list(trials(64, templates=TEMPLATES[:2]))).alike
    assert len(same) > 4
    assert len({trial.template for trial in same.trials}) == 1
    assert len({tuple(sorted(own)) for own in same.places.tolist()}) == 1


def test_numbers_that_decisions_hold_out_are_never_compared_in_pretraining() -> None:
    texts = " ".join(number_texts(300))
    told = {(int(a), int(b)) for a, b in re.findall(r"\b(\d+) is (?:more|less) than (\d+)\.", texts)}
    assert len(told) > 100 and not {(min(pair), max(pair)) for pair in told} & KEPT
    assert "Context" not in texts and "Answer" not in texts


def test_permuted_weights_keep_their_sizes_and_lose_their_places(base: str) -> None:
    shop = Workshop(DecisionsRun(Path("none"), Decisions(base=base)), CPU)
    before = dict(shop.pretrained.named_parameters())
    after = dict(permuted(shop.pretrained, 0).named_parameters())
    for name, own in before.items():
        assert torch.equal(own.flatten().sort().values, after[name].flatten().sort().values)
        assert own.ndim < 2 or not torch.equal(own, after[name])
    again = dict(permuted(shop.pretrained, 1).named_parameters())
    assert not any(torch.equal(after[n], again[n]) for n in after if after[n].ndim >= 2)


def test_arms_are_taught_the_same_and_only_scratch_and_seeds_differ(base: str) -> None:
    shop = Workshop(DecisionsRun(Path("none"), Decisions(base=base, rank=2)), CPU)
    weights = {
        (arm, seed): torch.cat(
            [p.flatten() for _, p in shop.start(DecisionTrial(arm, "train", seed)).named_parameters()]
        )
        for arm in ARMS[1:]
        for seed in (0, 1)
    }
    assert torch.equal(weights["fine-tuned", 0], weights["fine-tuned", 1])
    assert not torch.equal(weights["scratch", 0], weights["scratch", 1])
    assert not torch.equal(weights["shuffled", 0], weights["shuffled", 1])
    assert [shop.rank(arm) for arm in ARMS[1:]] == [2, 0, 2]
    held = {trial.pair for trial in shop.looked[HELD_OUT].trials}
    assert not held & {trial.pair for trial in trials(2000, templates=shop.settings.templates)}


def test_a_planted_unit_is_the_one_that_tells_the_choice(base: str) -> None:
    """Activations with the choice written into one unit: it is decoded there and nowhere else."""
    shop = Workshop(DecisionsRun(Path("none"), Decisions(base=base, looked=256)), CPU)
    prompts = shop.looked[HELD_OUT]
    states = States(shop.pretrained, prompts)
    noise = torch.Generator().manual_seed(0)
    states.residual = torch.randn(states.residual.shape, generator=noise)
    states.hidden = torch.randn(states.hidden.shape, generator=noise)
    states.hidden[1, :, 7] += 3.0 * prompts.variables["choice"]
    told = units(states, prompts).filter(pl.col("significant") & (pl.col("variable") == "choice"))
    assert told.select("kind", "layer", "unit").rows() == [("mlp", 1, 7)]


def test_loss_without_a_part_that_does_nothing_is_that_of_the_whole_model(base: str) -> None:
    shop = Workshop(DecisionsRun(Path("none"), Decisions(base=base)), CPU)
    model = permuted(shop.pretrained, 0)
    writer = model.block(1).self_attn.o_proj.weight
    with torch.no_grad():
        writer[:, 8:] = 0  # what the second of two heads writes
        writer[:, :8] *= 200
    texts = encode_questions(shop.tokenizer, ordinary(4))
    table = text_loss_effects(model, texts, chosen=[Part("head", 1, 0), Part("head", 1, 1)])
    gained = dict(table.select("head", "loss_gained").iter_rows())
    assert gained[1] == pytest.approx(0, abs=1e-6) and abs(gained[0]) > 1e-3
    assert table["loss"][0] == pytest.approx(
        torch.nn.functional.cross_entropy(
            model.logits_at(texts.tokens, texts.items, texts.positions), texts.targets
        ).item(),
        abs=1e-4,
    )


def test_what_the_paper_says_is_answered_with_yes_and_its_opposite_with_no(tmp_path: Path) -> None:
    answers = [own.answer for own in comparisons(Measured(made_up(tmp_path / "as")))]
    assert answers == ["yes"] * 4
    turned = made_up(tmp_path / "turned", fine_tuned=0.1, scratch=0.9)
    assert comparisons(Measured(turned))[0].answer == "no"


def test_arms_that_do_not_decide_equally_well_are_not_compared(tmp_path: Path) -> None:
    ends: dict[Arm, float] = {**PAPER, "scratch": 0.93 - MATCHED - 0.01}
    run = made_up(tmp_path / "run", ends)
    assert Measured(run).matched() == []
    assert {own.answer for own in conclude(run)} == {"void"}
    both_weak = made_up(tmp_path / "weak", {**PAPER, "fine-tuned": 0.79, "scratch": 0.79})
    assert Measured(both_weak).matched() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--base", "./nowhere"), "not there"),
        (("--reach", "0.5"), "reach"),
        (("--wordings", "4"), "wordings"),
        (("--embeddings", "map"), "embeddings"),
        (("--arms", "pretrained"), "arms"),
        (("--arms", "scratch", "scratch"), "arms"),
        (("--seeds", "0"), "seeds"),
        (("--ablated", "9999"), "ablated"),
        (("--learning-rate", "0"), "learning_rate"),
        (("--batch", "0"), "batch"),
        (("--jobs", "0"), "jobs"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "cddm", *words, "--out", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_without_left_and_right_is_refused(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from veneer.language.fresh import train_tokenizer

    tokenizer = train_tokenizer(["a b c"], 260)
    fresh_llama(Shape(len(tokenizer), 16, 2, 2, 24, 512), tokenizer, 0).module.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    capsys.readouterr()
    assert call("run", "cddm", "--base", str(tmp_path / "m"), "--out", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert "token for left" in error and error.count("\n") == 1


@pytest.mark.timeout(240)
def test_the_whole_run_and_every_command_on_it(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert call("run", "cddm", "--base", base, *options(), "--out", str(out), "--jobs", "1") == 0
    capsys.readouterr()
    run = DecisionsRun.read(out)
    assert not run.pending()
    for name in LOOKS:
        assert not pl.read_parquet(out / f"{name}.parquet").is_empty(), name
    found = conclude(run)
    assert {own.answer for own in found} <= {"void", "not measured"}  # four updates teach nothing
    page = render(run, found)
    assert "Void" in page and "<script" not in page and page.count("<svg") > 10
    assert call("verify", str(out)) == 0
    capsys.readouterr()
    assert call("status", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out)["done"] == len(run.trials())
    assert call("report", str(out)) == 0
    assert call("figures", str(out), "--out", str(tmp_path / "figures")) == 0
    assert len(list((tmp_path / "figures").glob("*.svg"))) == 4
    capsys.readouterr()
    assert call("claims", str(out), "--only", "L1", "L3", "--json") == 0
    outcomes = {own["outcome"] for own in json.loads(capsys.readouterr().out)["claims"]}
    assert outcomes == {"undecidable at this size"}
    look = run.settings.trials_of("look")[-1]
    table = out / "looks" / look.id / "units.parquet"
    before = pl.read_parquet(table)
    run._file(look).unlink()
    assert call("verify", str(out)) == 1
    assert call("analyse", str(out)) == 0
    assert pl.read_parquet(table).equals(before)
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    assert call("verify", str(out)) == 1
    assert "units.parquet: changed" in capsys.readouterr().out


def test_arms_may_be_left_out_and_the_page_says_so(base: str, tmp_path: Path) -> None:
    settings = Decisions(base=base, arms=("fine-tuned",), mean_ablation=False, **SMALL)
    assert {trial.arm for trial in settings.plan()} == {"pretrained", "fine-tuned"}
    run = DecisionsRun.open(tmp_path / "run", settings)
    run.record_inputs({"models": {}, "data": {}, "environment": {"versions": {}}})
    work(run, CPU)
    found = conclude(DecisionsRun.read(run.path))
    assert {own.answer for own in found} == {"not measured"}
    page = render(run, found)
    assert "asked for without “From scratch”" in page and "Void" not in page
    assert set(pl.read_parquet(run.path / "ablation.parquet")["how"]) == {"zero"} and "by mean" not in page
    run._file(settings.trials_of("look")[-1]).unlink()
    assert len(rows(DecisionsRun.read(run.path))) == 2  # the pretrained model alone has been looked into
    for arms in ((), ("pretrained",), ("scratch", "scratch")):
        with pytest.raises(InputError, match="arms"):
            Decisions(arms=arms)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_a_gpt2_whose_fine_tuning_is_adapters_goes_through_to_page_and_claims(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its matrices act from the other side than a Llama's, in LoRA as in the ablation of heads."""
    from transformers import GPT2Config, GPT2LMHeadModel

    base, out = tmp_path / "gpt2", tmp_path / "run"
    tokenizer = load_tokenizer(ready("numbers"))
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=512, n_embd=16, n_layer=2, n_head=2, **ends)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        GPT2LMHeadModel(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    words = ("--base", str(base), *options(rank=4), "--out", str(out), "--jobs", "1")
    assert call("run", "cddm", *words) == 0
    run = DecisionsRun.read(out)
    assert not run.pending() and (out / "report.html").exists()
    for trial in run.settings.trials_of("train"):
        kept = load_state(run.weights(trial))
        adapters = [name for name in kept if ".lora_" in name]
        assert len(adapters) == (0 if trial.arm == "scratch" else len(kept)), trial
    shop = Workshop(run, CPU)
    whole = shop.pretrained
    for trial in run.settings.trials_of("look"):
        model = shop.model(trial)
        assert {n: p.shape for n, p in model.named_parameters()} == {
            n: p.shape for n, p in whole.named_parameters()
        }
        ablated = out / "looks" / trial.id / "ablation.parquet"
        assert ablated.exists() == (trial.trained is not None), "a model that guesses has nothing to lose"
        if trial.trained is not None:
            assert pl.read_parquet(ablated).filter(how="zero", kind="head").height == 4
        assert scores(model, shop.looked[HELD_OUT])["accuracy"] == pytest.approx(
            pl.read_parquet(out / "looks" / trial.id / "final.parquet").filter(asked=HELD_OUT)["accuracy"][0]
        )
    assert call("verify", str(out)) == 0
    capsys.readouterr()
    assert call("claims", str(out), "--only", "L1", "L2", "L8", "--json") == 0
    found = json.loads(capsys.readouterr().out)["claims"]
    assert {own["outcome"] for own in found} == {"undecidable at this size"}  # one seed


def test_killed_training_goes_on_to_the_same_numbers(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Decisions(base=base, **SMALL)
    whole, killed = (DecisionsRun.open(tmp_path / name, settings) for name in ("whole", "killed"))
    work(whole, CPU, stages=("train",))
    monkeypatch.setattr(cddm_work, "train", partial(cddm_work.train, state_seconds=0.0))

    def stop(told: str, step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    for _ in range(len(settings.trials_of("train"))):
        with pytest.raises(KeyboardInterrupt):
            work(killed, CPU, stop, stages=("train",))
        assert list((killed.path / "states").glob("*.safetensors"))
        trial = next(own for own in killed.pending() if own.stage == "train")
        shop = Workshop(killed, CPU)
        killed.finish(trial, shop.train(trial, lambda told, step: None))
    for trial in settings.trials_of("train"):
        assert whole.result(trial) == killed.result(trial), trial
        assert whole.weights(trial).read_bytes() == killed.weights(trial).read_bytes()


def test_an_arm_stops_at_the_first_measurement_that_is_good_enough(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = DecisionsRun(tmp_path, Decisions(base=base, **{**SMALL, "updates": 8}))
    rising = iter([0.5, 0.7, 0.9, 0.95])
    monkeypatch.setattr(cddm_work, "scores", lambda model, prompts: {"accuracy": next(rising)})
    found = Workshop(run, CPU).train(DecisionTrial("scratch", "train", 0), lambda told, step: None)
    assert found["steps"] == [0, 2, 4]


def test_accuracy_is_asked_of_left_and_right_alone_and_ablation_agrees(base: str, tmp_path: Path) -> None:
    shop = Workshop(DecisionsRun(tmp_path, Decisions(base=base, checked=64)), CPU)
    model, prompts = shop.pretrained, shop.checked
    found = scores(model, prompts)
    assert found["accuracy"] == pytest.approx((found["congruent"] + found["incongruent"]) / 2)
    table = text_ablation_effects(model, prompts.tokens, prompts.at, prompts.labels, "zero", prompts.answers)
    assert np.allclose(table["accuracy"] + table["accuracy_lost"], found["accuracy"])
    assert np.allclose(table["difference"] + table["difference_lost"], found["difference"], atol=1e-4)
