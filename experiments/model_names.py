"""How pretrained models are named: by a word of the command line, and by the name that tables give them."""

import re
from pathlib import Path

SEED = "{seed}"
"""Stands for a run's seed in a pretrained model's name or path, so that each seed starts from its own."""


def model_name(word: str) -> str:
    """The name that tables give to the model, or to all seeds' models, that a word stands for."""
    name = Path(word).name.removesuffix(".json").removesuffix(".safetensors")
    if SEED not in name:
        return name
    return re.sub(r"[-_]?(seed)?[-_]?\{seed\}", "", name).strip("-_") or "pretrained"
