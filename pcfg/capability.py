"""A learned capability: a pretrained GPT with the layout of its samples and what it was trained on."""

from dataclasses import dataclass
from pathlib import Path

from veneer.models.checkpoint import load_checkpoint, save_checkpoint
from veneer.models.transformer import Transformer
from veneer.pcfg.families import SampleLayout
from veneer.tasks.errors import InputError

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
            "layout": self.layout.describe(),
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
            layout = SampleLayout.read(metadata["layout"])
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
