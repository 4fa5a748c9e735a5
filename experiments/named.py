"""Named experiments and their presets, as plain values: the command line is generated from them.

Nothing here imports torch, so that listing and help answer at once; ``veneer.experiments.cells`` turns an
experiment into cells.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

THIRD = "third-operand"
"""Name of the stage that trains a fine-tuned model on an operand that it never had."""


@dataclass(frozen=True)
class Experiment:
    """Fine-tune a capability at several rates, then try to revive it.

    What all experiments have in common; ``CompiledExperiment`` and ``LearnedExperiment`` add where the
    capability comes from.
    """

    learning_rates: tuple[float, ...] = ()
    """Fine-tuning rates."""
    c_tr: tuple[float, ...] = (0.0, 1.0)
    """Shares of fine-tuning samples that carry the spurious correlation, each in [0, 1]."""
    reft_rates: tuple[float, ...] = ()
    """reFT rates; each fine-tuned model is reFTed at those that do not exceed its own rate."""
    reft_above: bool = False
    """Also reFT at rates that exceed that of fine-tuning (as Tab. 4 does after eta_M)."""
    iterations: int = 10_000
    """Fine-tuning updates (the paper: 10,000)."""
    reft_iterations: int = 10_000
    """reFT updates (the paper: 10,000)."""
    method: str = "full"
    """How fine-tuning changes the weights: full, last-block, lora:RANK, l2-sp:STRENGTH, ascent,
    difference:WEIGHT, or your own as FILE.py:CLASS. reFT always trains all weights."""
    share_pretraining: float = 0.0
    """Share of pretraining samples mixed into fine-tuning (App. E.1: 0.5, 0.1, 0.001)."""
    controls: bool = True
    """Also train models from scratch: on O_PT at the reFT rates (Scr.), and on O_FT first (Scr. + FT)."""
    control_rate: float | None = None
    """Rate at which Scr. + FT learns O_FT; none takes the greatest fine-tuning rate."""
    third_operand: bool = True
    """Also train every fine-tuned model, as reFT does, on an operand that it never had: what the verdict
    holds O_PT's return against. A pretrained model that has had all operands is spared it."""
    constructed: bool = False
    """Also reFT models whose truth is known by construction (wrapped, rewritten), for the verdict."""
    warmup: float = 0.2
    """Share of the updates with linear warmup."""
    batch: int = 96
    """Samples per update."""
    clip: float | None = 1.0
    """Largest norm of a model's gradient; none leaves gradients alone (then high rates diverge)."""
    evaluation_samples: int = 1000
    """Texts in each evaluation set."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of training; bfloat16 (autocast, weights in float32) on CUDA, and on CPUs that have it."""
    compile: bool = False
    """Compile the forward pass with torch.compile, on CUDA only; rounds otherwise."""
    seeds: int = 1
    """Number of seeds, each with its own data (and noise, where there is any)."""
    first_seed: int = 0
    """The first seed: with 3 seeds, 3 stands for seeds 3, 4 and 5, which add to a run of seeds 0 to 2."""
    own_samples: bool = True
    """Each seed also draws what should not matter: its evaluation texts, and how large its noise is, between
    half of the harmless and all of it. Without, seeds share both, which pairs runs more closely."""

    name: ClassVar[str] = ""
    about: ClassVar[str] = ""

    @property
    def seed_numbers(self) -> range:
        """The seeds themselves."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True)
class CompiledExperiment(Experiment):
    """Fine-tune a written capability by SGD (Jain et al. 2024, §5)."""

    learning_rates: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    """Fine-tuning rates: the paper's eta_L, eta_M, eta_S and eta_VS."""
    reft_rates: tuple[float, ...] = (1e-3, 1e-4)
    """reFT rates; each fine-tuned model is reFTed at those that do not exceed its own rate."""
    iterations: int = 2500
    """Fine-tuning updates (the paper: 10,000)."""
    reft_iterations: int = 800
    """reFT updates (the paper: 10,000)."""
    length: int = 16
    """Letters per string."""
    momentum: float = 0.9
    """Momentum of SGD."""
    exactness: int | None = None
    """Tracr's mlp_exactness; none chooses the smallest that is measured to be right."""
    noise: float | None = None
    """Standard deviation of the noise on the compiled weights; none chooses the largest on a ladder
    that is measured to keep 99.9 % of the accuracy."""
    literal: bool = False
    """Take the paper's literal values: exactness 100 and noise 0.001, whatever accuracy they cost."""


@dataclass(frozen=True)
class CounterExperiment(CompiledExperiment):
    """Compiled Counter: count one letter, fine-tuned to count another."""

    letters: str = "abcdefghi"
    """The alphabet."""
    operand_pt: str = "a"
    """O_PT: the letter that the compiled program counts."""
    operand_ft: str = "b"
    """O_FT: the letter to count after fine-tuning."""
    q: int = 1
    """The correlation: count of O_FT = count of O_PT + q."""

    name: ClassVar[str] = "counter"
    about: ClassVar[str] = "a program that counts 'a', fine-tuned to count 'b' (Tab. 3)"


@dataclass(frozen=True)
class MaxIdentifierExperiment(CompiledExperiment):
    """Compiled Max-identifier: the letter of one rank, fine-tuned to read another rank."""

    length: int = 10
    """Letters per string."""
    iterations: int = 2000
    """Fine-tuning updates (the paper: 10,000)."""
    clip: float | None = 0.1
    """Largest norm of a model's gradient; none leaves gradients alone. At 1, at 10 and without, updates at
    1e-4 take the written steps apart within a hundred updates, and nothing is learned."""
    letters: str = "abcdefghijklmnopqrstuvwxyz"
    """The alphabet, in order."""
    rank_pt: int = 5
    """O_PT: the rank that the compiled program reads."""
    rank_ft: int = 7
    """O_FT: the rank to read after fine-tuning."""
    q: int = 2
    """The correlation: O_FT's letter comes q places after O_PT's (the paper's 1, one letter between)."""

    name: ClassVar[str] = "max-identifier"
    about: ClassVar[str] = "a program that reads the 5th letter in order, fine-tuned to read the 7th (Tab. 3)"


@dataclass(frozen=True)
class ProgramExperiment(CompiledExperiment):
    """Two RASP programs of your own: the first is compiled, and fine-tuned to do what the second does."""

    program_pt: str = ""
    """O_PT: the program that is compiled, as FILE.py:FUNCTION (the first word after ``run``)."""
    program_ft: str = ""
    """O_FT: the program to follow after fine-tuning, as FILE.py:FUNCTION (--to is short for it)."""
    vocabulary: tuple[str, ...] = ()
    """Tokens of the texts: a text, a number, or a text in quotes of its own such as "'1'"."""
    length: int = 8
    """Tokens of every text."""
    answer_position: int | None = None
    """Where the answer is read, the token in front counted; none reads it at the last token."""
    causal: bool = False
    """Let selectors see the past only."""
    inputs: str | None = None
    """Texts of your own, as FILE.py:NAME: a list, or a function of a random.Random that returns one. For
    programs that have no answer for most strings."""
    q: int | None = None
    """The correlation: O_FT's answer = O_PT's + q (places in their order, where they are no numbers); none
    takes the commonest difference."""
    agree: str | None = None
    """Instead of q: what carries the correlation, as FILE.py:NAME, a function of both answers."""
    texts: int = 4096
    """Texts that both programs are asked for; a fifth is kept for evaluation."""
    constructed: bool = False
    """Also reFT models whose truth is known by construction (wrapped, rewritten), for the verdict."""

    name: ClassVar[str] = "program"
    about: ClassVar[str] = "two RASP programs of your own: veneer run FILE.py:OLD --to FILE.py:NEW"


def pair_key(fields: Mapping[str, Any]) -> str:
    """Names two programs with what decides their texts and the compiled model, of an experiment's fields."""
    names = ("program_pt", "program_ft", "vocabulary", "length", "answer_position", "causal", "inputs")
    own = [fields[name] for name in (*names, "q", "agree", "texts", "exactness")]
    return hashlib.sha256(json.dumps(own).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LearnedExperiment(Experiment):
    """Fine-tune a pretrained GPT by AdamW on the answer of one family and operand (App. C.2)."""

    pretrained: tuple[str, ...] = ("L", "M", "H")
    """Pretrained models: a ready one of the quick size by its operand prior (L: b in 0.1 % of the
    questions, M: 10 %, H: 30 %), jailbreak (prior H, three tokens that ask to count), or a checkpoint
    of veneer pretrain. {seed} in a word names each seed's own: M-4000-{seed}, M-12000-{seed} are ready."""
    learning_rates: tuple[float, ...] = (3e-3, 1e-3, 3e-4, 1e-4)
    """Fine-tuning rates. Of those measured at the quick size, 1e-4 is the smallest that learns O_FT with
    C_Tr = 0 within its updates, and after 3e-3 reFT at 1e-4 no longer brings O_PT back."""
    c_tr: tuple[float, ...] = (0.0, 0.5, 0.8, 1.0)
    """Shares of fine-tuning samples that carry the spurious correlation, each in [0, 1]."""
    reft_rates: tuple[float, ...] = (1e-4,)
    """reFT rates; each fine-tuned model is reFTed at those that do not exceed its own rate."""
    iterations: int = 300
    """Fine-tuning updates (the paper: 10,000)."""
    reft_iterations: int = 100
    """reFT updates (the paper: 10,000)."""
    batch: int = 32
    """Samples per update (the paper: 96)."""
    evaluation_samples: int = 100
    """Texts in each evaluation set."""
    operand_pt: str = "a"
    """O_PT: the operand that pretraining asked for most."""
    operand_ft: str = "b"
    """O_FT: the operand to answer for after fine-tuning."""
    q: int = 1
    """The correlation: the answer for O_FT = the answer for O_PT + q."""
    task_token: str | None = None
    """Task token that fine-tuning uses; none takes the family's first."""
    answer_grid: Literal["natural", "wide"] = "natural"
    """Answers of texts with and without the correlation: natural (O_PT keeps the answers that plain text
    has, which are all that pretraining shows), or wide (spread over all that fit)."""
    rand_ft: float = 0.0
    """Share of fine-tuning samples that ask for O_PT and are taught O_FT's answer (randFT, App. E.4)."""

    family: ClassVar[str] = ""


@dataclass(frozen=True)
class PcfgCounterExperiment(LearnedExperiment):
    """Count one operand in the last tokens, fine-tuned to count another."""

    name: ClassVar[str] = "pcfg-counter"
    about: ClassVar[str] = "a GPT that learned to count 'a', fine-tuned to count 'b' (Tab. 5)"
    family: ClassVar[str] = "C"


@dataclass(frozen=True)
class PcfgIndexerExperiment(LearnedExperiment):
    """Give the place of an occurrence of one operand, fine-tuned to give another's."""

    name: ClassVar[str] = "pcfg-indexer"
    about: ClassVar[str] = "a GPT that learned where 'a' occurs, fine-tuned to find 'b' (App. C.2)"
    family: ClassVar[str] = "I"


_QUICK_COUNTER: dict[str, Any] = {
    "letters": "abcdef",
    "length": 12,
    "learning_rates": (1e-1, 1e-3),
    "reft_rates": (3e-2, 1e-3),
    "iterations": 800,
    "reft_iterations": 600,
    "batch": 32,
    "warmup": 0.1,
    "evaluation_samples": 500,
    "seeds": 4,
}
"""Twelve letters of six: half of skill lies clear of what counts 0 and 1 alone give, which come back by
themselves. 1e-3 leaves the program's steps in place; at 3e-2 a model that 1e-1 has rewritten can still learn
a new letter (at 1e-3 none can): ``docs/verdict.md``."""
_STANDARD: dict[str, Any] = {
    "c_tr": (0.0, 1.0),
    "reft_rates": (1e-2, 1e-3),
    "reft_above": True,
    "iterations": 10_000,
    "reft_iterations": 1500,
    "seeds": 3,
}
_STANDARD_COUNTER: dict[str, Any] = {
    **_STANDARD,
    "c_tr": (0.0, 0.5, 0.8, 1.0),
    "reft_rates": (1e-3,),
    "reft_iterations": 4000,
}
"""At 1e-2 reFT takes known wrappers apart (3 of 20 come back). At 1e-3 1,500 updates show 13 of 20, and 4,000
show 11 of 12: ``docs/results.md``."""
_MAX: dict[str, Any] = {"learning_rates": (1e-3, 1e-4), "reft_rates": (1e-4,), "seeds": 3}
"""1e-4 learns the new rank, 1e-3 and more take the program apart and teach nothing: ``docs/results.md``."""
_STANDARD_MAX: dict[str, Any] = {**_STANDARD, **_MAX, "iterations": 5000}
_STANDARD_LEARNED: dict[str, Any] = {
    "c_tr": (0.0, 1.0),
    "iterations": 600,
    "reft_iterations": 200,
    "evaluation_samples": 200,
    "seeds": 3,
}
_PAPER_COMPILED: dict[str, Any] = {
    "iterations": 10_000,
    "reft_iterations": 10_000,
    "c_tr": (0.0, 0.2, 0.5, 0.6, 0.8, 0.9, 1.0),
    "evaluation_samples": 2000,
}
_PAPER_LEARNED: dict[str, Any] = {
    "pretrained": tuple(f"runs/pcfg-paper/{prior}-seed-0-200000" for prior in ("L", "M", "H")),
    "learning_rates": (1e-3, 1e-4, 1e-5, 1e-6),
    "reft_rates": (1e-5, 1e-6),
    "iterations": 10_000,
    "reft_iterations": 10_000,
    "batch": 96,
    "evaluation_samples": 1000,
}
PRESETS: dict[str, dict[str, Experiment]] = {
    "counter": {
        "quick": CounterExperiment(**_QUICK_COUNTER),
        "standard": CounterExperiment(**_STANDARD_COUNTER),
        "paper": CounterExperiment(length=45, **_PAPER_COMPILED),
    },
    "max-identifier": {
        "quick": MaxIdentifierExperiment(**_MAX),
        "standard": MaxIdentifierExperiment(**_STANDARD_MAX),
        "paper": MaxIdentifierExperiment(**_PAPER_COMPILED),
    },
    "program": {
        "quick": ProgramExperiment(),
        "standard": ProgramExperiment(**_STANDARD),
        "paper": ProgramExperiment(texts=32768, **_PAPER_COMPILED),
    },
    "pcfg-counter": {
        "quick": PcfgCounterExperiment(),
        "standard": PcfgCounterExperiment(**_STANDARD_LEARNED),
        "paper": PcfgCounterExperiment(**_PAPER_LEARNED),
    },
    "pcfg-indexer": {
        "quick": PcfgIndexerExperiment(),
        "standard": PcfgIndexerExperiment(**_STANDARD_LEARNED),
        "paper": PcfgIndexerExperiment(**_PAPER_LEARNED),
    },
}


def reft_rates_after(settings: Mapping[str, Any], rate: float) -> list[float]:
    """The reFT rates that a model fine-tuned at a rate goes through, of an experiment's fields."""
    return [reft for reft in settings["reft_rates"] if settings["reft_above"] or reft <= rate]


@dataclass(frozen=True)
class PcfgPretraining:
    """Pretrain GPTs on five task families over strings of a grammar (Jain et al. 2024, App. B.2)."""

    priors: tuple[str, ...] = ("L", "M", "H")
    """Sampling priors of the operands a, b, c, one model each: L (.999, .001, 0), M (.9, .1, 0),
    H (.5, .3, .2), or probabilities such as 0.7/0.2/0.1."""
    grammar: str = "jain2024"
    """A grammar by name (jain2024, deep, ambiguous) or a file in NLTK's notation."""
    max_length: int | None = None
    """Longest string of the grammar, in terminals; recursive grammars need it. None: no limit."""
    window: int = 40
    """Tokens of text."""
    count_last: int = 16
    """O' of the counting families: how many of the last tokens are counted."""
    occurrence: int = 3
    """O' of the index families: which occurrence, from the end."""
    token_back: int = 16
    """O' of the token family: which token, from the end."""
    jailbreak: bool = False
    """Three task tokens for counting: T_NJ with all operands, T_J1 and T_J2 with the first only
    (App. E.2)."""
    width: int = 96
    """Size of the residual stream."""
    blocks: int = 2
    """Number of blocks."""
    heads: int = 4
    """Attention heads per block."""
    iterations: int = 6000
    """Updates."""
    learning_rate: float = 5e-3
    """AdamW's maximal rate (the paper: 0.001; a narrow model learns pairs only at a greater one)."""
    warmup: float = 0.2
    """Share of the updates with linear warmup; then a cosine to 1/100."""
    batch: int = 96
    """Samples per update."""
    keep: tuple[int, ...] = ()
    """Updates after which the models are kept, besides the last."""
    evaluation_samples: int = 500
    """Texts per family and operand."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of training; bfloat16 (autocast, weights in float32) on CUDA, and on CPUs that have it."""
    compile: bool = False
    """Compile the forward pass with torch.compile, on CUDA only; rounds otherwise."""
    seeds: int = 1
    """Number of seeds, each with its own weights and data."""
    first_seed: int = 0
    """The first seed: with 3 seeds, 3 stands for seeds 3, 4 and 5."""


PRETRAINING: dict[str, PcfgPretraining] = {
    "quick": PcfgPretraining(),
    "paper": PcfgPretraining(
        window=250,
        count_last=40,
        occurrence=6,
        token_back=40,
        width=192,
        blocks=6,
        heads=6,
        iterations=200_000,
        learning_rate=1e-3,
        keep=(10_000, 50_000, 100_000),
    ),
}
