"""A written capability: a compiled Transformer with what its inputs and outputs mean.

Plain data and torch only, so that a capability loads without JAX. It is stored as a folder with a
checkpoint (``veneer.models.checkpoint``) whose metadata is everything but the weights.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.models.answering import Answering, Text, look_up
from veneer.models.checkpoint import load_checkpoint, save_checkpoint
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

Value = None | bool | int | float | str | tuple
"""What a RASP sequence holds; tuples only occur within programs that build them."""

FORMAT = 2
"""Version of the folder's layout and of the conversion; part of every cache key."""


@dataclass(frozen=True)
class Calibration:
    """How exactness and noise were chosen, and what was measured (see ``veneer.compiled.exactness``).

    Attributes:
        mlp_exactness: Tracr's ``mlp_exactness``; MLP steps are 1 / mlp_exactness wide.
        noise_std: standard deviation of the Gaussian noise to add once to every weight.
        accuracy_before: share of task strings answered rightly without noise.
        accuracy_after: the same with noise, over all seeds.
        every_before: share right, without noise, of strings that show every answer equally often;
            None for a program of the user's own.
        every_after: the same with noise, over all seeds.
        strings: number of task strings.
        seeds: noise seeds; the accuracies with noise are over strings x seeds.
        literal: whether the paper's own values were taken without choosing.
        unanswered: share of the positions read at which RASP itself has no answer (None); they are
            counted neither as right nor as wrong.
    """

    mlp_exactness: int
    noise_std: float
    accuracy_before: float
    accuracy_after: float
    every_before: float | None
    every_after: float | None
    strings: int
    seeds: int
    literal: bool = False
    unanswered: float = 0.0


@dataclass(frozen=True)
class CompiledCapability(Answering):
    """A compiled program.

    Attributes:
        model: the Transformer, a fleet of one.
        vocabulary: token by id, BOS and PAD included.
        bos: the token in front of every input.
        pad: the token that fills short inputs up; as in Tracr it is an ordinary key.
        classes: output value by class; None where the output is one number.
        residual_labels: Tracr's name of each direction of the residual stream.
        max_length: longest input, in tokens without BOS.
        causal: whether a position sees only itself and earlier ones.
        mlp_exactness: what the program was compiled with.
        answer_position: position of the answer, BOS counted; None where all positions answer.
        source: how it was made, in words.
        calibration: how exactness and noise were chosen, if they were.
    """

    model: Transformer
    vocabulary: tuple[Value, ...]
    bos: str
    pad: str
    classes: tuple[Value, ...] | None
    residual_labels: tuple[str, ...]
    max_length: int
    causal: bool
    mlp_exactness: int
    answer_position: int | None
    source: str
    calibration: Calibration | None = None

    def token_ids(self, text: Text, operand: str | None = None, task_token: str | None = None) -> list[int]:
        """Token ids of a text, BOS put in front; which operand is meant is written into the program.

        Raises:
            InputError: as ``encode``, or an operand or a task token is given.
        """
        for name, value in (("operand", operand), ("task_token", task_token)):
            if value is not None:
                raise InputError(name, value, "none: the input of a written program names none")
        return self.encode(list(text))

    def encode(self, values: Sequence[Value]) -> list[int]:
        """Token ids of an input, BOS put in front.

        Raises:
            InputError: a token that is not in the vocabulary, or more than ``max_length`` of them.
        """
        if len(values) > self.max_length:
            raise InputError("input", list(values), f"at most {self.max_length} tokens")
        ids = {value: i for i, value in enumerate(self.vocabulary)}
        for value in values:
            if value not in ids or value == self.bos:
                allowed = ", ".join(repr(v) for v in self.vocabulary if v != self.bos)
                raise InputError("input token", value, f"one of {allowed}")
        return [ids[self.bos], *(ids[value] for value in values)]

    def encode_all(self, strings: Sequence[Sequence[Value]]) -> Int[Tensor, "batch position"]:
        """Token ids of many inputs, short ones filled up with PAD to the longest.

        Raises:
            InputError: as ``encode``.
        """
        longest = max(map(len, strings), default=0)
        return torch.tensor([self.encode([*s, *[self.pad] * (longest - len(s))]) for s in strings])

    def __repr__(self) -> str:
        reads = "everywhere" if self.answer_position is None else f"at position {self.answer_position}"
        return (
            f"CompiledCapability({self.source}: at most {self.max_length} tokens of {self._words}, "
            f"answer {reads}, {self.model.parameter_count:,} parameters)"
        )

    @property
    def _words(self) -> str:
        """Its tokens without BOS and PAD, the first few."""
        own = [str(value) for value in self.vocabulary if value not in (self.bos, self.pad)]
        return " ".join(own) if len(own) <= 12 else f"{' '.join(own[:10])} … ({len(own)})"

    def decode(self, logits: Float[Tensor, "*lead classes"]) -> Any:
        """Output values, nested in lists as the leading axes are (a single value if there are none)."""
        if self.classes is None:
            return logits.squeeze(-1).tolist()
        return look_up(self.classes, logits.argmax(-1).tolist())

    def run(self, values: Sequence[Value]) -> list[Value]:
        """The compiled program's output for one input, as Tracr's ``apply`` decodes it (BOS in front).

        Raises:
            InputError: as ``encode``.
        """
        device = self.model.token_embedding.device
        with torch.no_grad():
            logits = self.model(torch.tensor([[self.encode(values)]], device=device)).logits[0, 0]
        return [self.bos, *self.decode(logits)[1:]]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``model.json``, the checkpoint with all of this as metadata."""
        fields = {name: getattr(self, name) for name in _PLAIN}
        fields["vocabulary"] = [to_json(value) for value in self.vocabulary]
        fields["classes"] = None if self.classes is None else [to_json(value) for value in self.classes]
        fields["residual_labels"] = list(self.residual_labels)
        fields["calibration"] = None if self.calibration is None else asdict(self.calibration)
        save_checkpoint(Path(folder) / "model", self.model, {"capability": FORMAT, **fields})

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> "CompiledCapability":
        """Read what ``save`` wrote.

        Raises:
            InputError: a file is missing or damaged, or written by another version.
        """
        model, fields = load_checkpoint(Path(folder) / "model")
        if fields.pop("capability", None) != FORMAT:
            raise InputError("capability", str(folder), "a compiled capability of this version of Veneer")
        classes, calibration = fields.pop("classes"), fields.pop("calibration")
        return CompiledCapability(
            model=model,
            vocabulary=tuple(map(from_json, fields.pop("vocabulary"))),
            classes=None if classes is None else tuple(map(from_json, classes)),
            residual_labels=tuple(fields.pop("residual_labels")),
            calibration=None if calibration is None else Calibration(**calibration),
            **fields,
        )


_PLAIN = ("bos", "pad", "max_length", "causal", "mlp_exactness", "answer_position", "source")


def to_json(value: Value) -> Any:
    """JSON keeps None, bool, int, float and str apart by itself; tuples need a mark."""
    return {"tuple": [to_json(v) for v in value]} if isinstance(value, tuple) else value


def from_json(value: Any) -> Value:
    """A value from what ``to_json`` made of it."""
    return tuple(map(from_json, value["tuple"])) if isinstance(value, dict) else value
