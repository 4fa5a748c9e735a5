"""Models of a run, or a capability, as the folder of a model repository on a hub.

Learned models become Hugging Face's GPT-2 with a tokenizer of their words, each in a folder of its own:
``AutoModelForCausalLM.from_pretrained(FOLDER, subfolder=NAME)`` opens them from the disk as it will from
the hub, and runs no code of ours. Written models are no GPT-2 (their attention looks both ways): they are
laid out as ``veneer.load_capability`` reads them. Nothing is sent anywhere: a hub's own client does that.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from veneer.compiled.capability import CompiledCapability
from veneer.experiments.store import Run
from veneer.experiments.summary import final_accuracies
from veneer.experiments.tuned import Capability
from veneer.models.checkpoint import load_checkpoint
from veneer.models.export import to_huggingface
from veneer.models.files import laid_out, write_text
from veneer.models.transformer import Transformer
from veneer.pcfg.capability import LearnedCapability
from veneer.tasks.errors import InputError
from veneer.tasks.extras import need

STAGES = ("fine-tune", "reft")
MEASURED = {"natural": "as drawn", "uncorrelated": "shortcut fails"}
OPENED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER", subfolder="{name}")
tokenizer = AutoTokenizer.from_pretrained("FOLDER", subfolder="{name}")
logits = model(**tokenizer("{text}", return_tensors="pt")).logits[0, -1]
tokenizer.decode(logits.argmax())  # the answer to the question in front of it"""
READ = """\
import veneer

veneer.load_capability("FOLDER/{name}").answer({text})"""


@dataclass(frozen=True)
class Shared:
    """A model to share.

    Attributes:
        name: of its folder.
        capability: how it reads and answers.
        model: its weights, a fleet of one.
        about: what the card's table says of it, by column.
    """

    name: str
    capability: Capability
    model: Transformer
    about: dict[str, str]


def lay_out_run(run: Run, out: Path) -> list[str]:
    """Lay out the finished models of a run: fine-tuned and retrained ones, and what they started from.

    Args:
        run: a run with finished cells.
        out: the new folder.

    Returns:
        The names of the models' folders.

    Raises:
        InputError: a folder in use, no finished model, or damaged files; nothing is left behind then.
    """
    about = f"Models of the run `{run.path.resolve().name}` (experiment {run.experiment['name']}), made by"
    return _lay_out(_models(run), about, run.experiment.get("command", "veneer run"), out)


def lay_out_capability(name: str, capability: Capability, out: Path) -> list[str]:
    """Lay out one capability, before any fine-tuning; as ``lay_out_run``."""
    command = capability.command if isinstance(capability, LearnedCapability) else "veneer compile"
    shared = Shared(_folder(name), capability, capability.model, {"model": name})
    return _lay_out(iter([shared]), "A capability, made by", command, out)


def _models(run: Run) -> Iterator[Shared]:
    """The models, capabilities first."""
    accuracies = {
        (cell, texts, operand): value
        for cell, texts, operand, value in final_accuracies(run)
        .select("cell", "texts", "operand", "value")
        .iter_rows()
    }
    table = run.models().unique("cell", keep="first", maintain_order=True)
    own = table.filter((pl.col("start") == "capability") & (pl.col("status") == "done"))
    several = own["capability"].n_unique() > 1
    for row in own.unique(["capability", "seed", "task"], maintain_order=True).iter_rows(named=True):
        capability = run.capability(row["capability"], row["seed"])
        name = _folder(*([row["capability"]] if several else []), "capability", f"seed-{row['seed']}")
        yield Shared(name, capability, capability.model, {"model": "before fine-tuning", **_seed(row)})
    for row in own.filter(pl.col("stage").is_in(STAGES)).iter_rows(named=True):
        setting = [f"rate-{row['fine_tuning_rate']:g}", f"share-{row['c_tr']:g}", f"seed-{row['seed']}"]
        stage = [row["stage"]] if row["stage"] == "fine-tune" else ["reft", f"{row['learning_rate']:g}"]
        axes = [f"{axis}-{row[axis]}" for axis in run.experiment.get("axes", {})]
        told = {
            "model": "fine-tuned" if row["stage"] == "fine-tune" else f"reFT at {row['learning_rate']:g}",
            "rate": f"{row['fine_tuning_rate']:g}",
            "C_Tr": f"{row['c_tr']:g}",
            **_seed(row),
        }
        for operand, title in (("pt", "old task"), ("ft", "new task")):
            for texts, words in MEASURED.items():
                value = accuracies.get((row["cell"], texts, operand))
                told[f"{title}, {words}"] = "" if value is None else f"{100 * value:.1f} %"
        name = _folder(*([row["capability"]] if several else []), *stage, *setting, *axes)
        model, _ = load_checkpoint(run.cell_path(row["cell"]) / "model")
        yield Shared(name, run.capability(row["capability"], row["seed"]), model, told)


def _seed(row: dict[str, Any]) -> dict[str, str]:
    return {"capability": row["capability"], "seed": str(row["seed"])}


def _folder(*parts: str) -> str:
    """A name that folders and addresses can have."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", "-".join(parts)).strip("-.")


def _lay_out(models: Iterator[Shared], about: str, command: str, out: Path) -> list[str]:
    made: list[Shared] = []
    with laid_out(out) as partial:
        for shared in models:
            _write(shared, partial / shared.name)
            made.append(shared)
        if not made:
            raise InputError("push", str(out), "a run with a finished fine-tuning")
        write_text(partial / "README.md", _card(made, about, command))
    return [shared.name for shared in made]


def _write(shared: Shared, folder: Path) -> None:
    if isinstance(shared.capability, CompiledCapability):
        replace(shared.capability, model=shared.model).save(folder)
        return
    to_huggingface(shared.model).save_pretrained(folder)
    _save_tokenizer(shared.capability.layout.vocabulary, folder)


def _save_tokenizer(vocabulary: tuple[str, ...], folder: Path) -> None:
    """A tokenizer of whole words with blanks between them, each with the id that the model knows."""
    need("huggingface")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: place for place, word in enumerate(vocabulary)}, vocabulary[0]))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)


def _card(models: list[Shared], about: str, command: str) -> str:
    """``README.md`` with a hub's front matter."""
    first = models[0]
    written = isinstance(first.capability, CompiledCapability)
    library = "veneer" if written else "transformers"
    columns = list(dict.fromkeys(name for shared in models for name in shared.about))
    rows = [
        f"| `{shared.name}` | {' | '.join(shared.about.get(name, '') for name in columns)} |"
        for shared in models
    ]
    return "\n".join(
        [
            *("---", f"library_name: {library}", "tags:", "- veneer", "- mechanistic-interpretability"),
            *("---", "", "# Models made by Veneer", "", about, "", "```console", command, "```", ""),
            f"| folder | {' | '.join(columns)} |",
            f"|---|{'---|' * len(columns)}",
            *rows,
            "",
            "Small models for the study of fine-tuning: they answer one kind of question about strings of "
            "letters, and are good at nothing else. Percent: right answers, by kind of text.",
            "",
            "```python",
            (READ if written else OPENED).format(name=first.name, text=_example(first.capability)),
            "```",
            "",
        ]
    )


def _example(capability: Capability) -> str:
    """A text that the model can read, as Python or a tokenizer takes it."""
    if isinstance(capability, CompiledCapability):
        tokens = [token for token in capability.vocabulary if token not in (capability.bos, capability.pad)]
        text = [tokens[i % len(tokens)] for i in range(capability.max_length)]
        letters = all(isinstance(token, str) and len(token) == 1 for token in tokens)
        return repr("".join(map(str, text)) if letters else text)
    layout = capability.layout
    letters = layout.grammar.terminals
    text = [letters[i % len(letters)] for i in range(layout.window)]
    words = [layout.vocabulary[i] for i in capability.token_ids(text, letters[0])]
    return " ".join(words)
