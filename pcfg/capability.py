"""A learned capability: a pretrained GPT with the layout of its samples and what it was trained on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.checkpoint import load_checkpoint, save_checkpoint
from models.transformer import Transformer
from pcfg.families import SampleLayout, TaskToken
from pcfg.grammar import Grammar
from tasks.errors import InputError

CHECKPOINTS = Path(__file__).parent / "checkpoints"
"""Ready checkpoints of the quick size, one per prior: quick-L, quick-M, quick-H."""


@dataclass(frozen=True)
class LearnedCapability:
    """A pretrained GPT.

    Attributes:
        model: the Transformer, a fleet of one.
        layout: shape and words of its samples.
        operand_prior: P_T(O) that it was pretrained with.
        seed: of its weights and data.
        iterations: pretraining updates behind it.
        accuracy: share of right answers by question ("C a"), as measured at the end.
        command: how to make it again.
    """

    model: Transformer
    layout: SampleLayout
    operand_prior: tuple[float, ...]
    seed: int
    iterations: int
    accuracy: dict[str, float]
    command: str

    def save(self, path: Path) -> None:
        """Write ``PATH.safetensors`` and ``PATH.json``."""
        metadata = {
            "layout": describe_layout(self.layout),
            "operand_prior": list(self.operand_prior),
            "seed": self.seed,
            "iterations": self.iterations,
            "accuracy": self.accuracy,
            "command": self.command,
        }
        save_checkpoint(path, self.model, metadata)

    @staticmethod
    def load(path: Path) -> "LearnedCapability":
        """Read what ``save`` wrote.

        Raises:
            InputError: missing, damaged, or the checkpoint of something else.
        """
        model, metadata = load_checkpoint(path)
        try:
            layout = read_layout(metadata["layout"])
            capability = LearnedCapability(
                model,
                layout,
                tuple(metadata["operand_prior"]),
                metadata["seed"],
                metadata["iterations"],
                metadata["accuracy"],
                metadata["command"],
            )
        except (KeyError, TypeError) as error:
            valid = "a checkpoint made by veneer pretrain"
            raise InputError("checkpoint", str(path), valid, f"it lacks {error}") from error
        expected = (len(layout.vocabulary), layout.length)
        if (model.config.vocabulary, model.config.positions) != expected:
            found = f"{model.config.vocabulary} tokens and {model.config.positions} positions"
            valid = f"a model of {expected[0]} tokens and {expected[1]} positions, as its layout has"
            raise InputError("checkpoint", str(path), valid, f"its vocabulary differs: {found}")
        return capability


def describe_layout(layout: SampleLayout) -> dict[str, Any]:
    """A layout as plain data."""
    grammar = layout.grammar
    return {
        "grammar": {"name": grammar.name, "text": grammar.text, "max_length": grammar.max_length},
        "window": layout.window,
        "count_last": layout.count_last,
        "occurrence": layout.occurrence,
        "token_back": layout.token_back,
        "padding": layout.padding,
        "task_tokens": [asdict(token) for token in layout.task_tokens],
    }


def read_layout(description: dict[str, Any]) -> SampleLayout:
    """The inverse of ``describe_layout``.

    Raises:
        KeyError, TypeError: something is missing.
        InputError: a grammar or number that cannot be used.
    """
    tokens = [
        TaskToken(**{**token, "operand_prior": token["operand_prior"] and tuple(token["operand_prior"])})
        for token in description["task_tokens"]
    ]
    grammar = description["grammar"]
    numbers = {
        name: description[name] for name in ("window", "count_last", "occurrence", "token_back", "padding")
    }
    return SampleLayout(
        Grammar.from_text(grammar["text"], name=grammar["name"], max_length=grammar["max_length"]),
        **numbers,
        task_tokens=tuple(tokens),
    )
