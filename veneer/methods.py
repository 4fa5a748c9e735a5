"""What a run did, in words: recipe, data, capability, deviations from the paper, and how to repeat it.

The paper is Jain et al. 2024 (arXiv 2311.12786v2); its settings are restated from App. B.1, C.1.
"""

import shlex
from dataclasses import fields
from typing import Any

from veneer.experiments import PRESETS

Entry = tuple[str, str]


def command(experiment: dict[str, Any]) -> str:
    """The command line that makes a run again, with the options that differ from the preset's.

    Args:
        experiment: the content of ``experiment.json``.
    """
    preset = PRESETS[experiment["name"]][experiment["preset"]]
    words = ["veneer", "run", experiment["name"], "--preset", experiment["preset"]]
    for field in fields(preset):
        default = getattr(preset, field.name)
        value = experiment["fields"][field.name]
        if value == (list(default) if isinstance(default, tuple) else default):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def operands(experiment: dict[str, Any]) -> dict[str, str]:
    """What O_PT ("pt") and O_FT ("ft") are, in a few words."""
    settings = experiment["fields"]
    if experiment["name"] == "counter":
        return {o: f"count of {settings[f'operand_{o}']!r}" for o in ("pt", "ft")}
    return {o: f"letter of rank {settings[f'rank_{o}']}" for o in ("pt", "ft")}


def question(experiment: dict[str, Any]) -> str:
    """The experiment in one sentence."""
    asked = operands(experiment)
    return (
        f"A small Transformer was compiled from a program, so that it provably has one capability (O_PT: "
        f"{asked['pt']}). It was then fine-tuned to do something else (O_FT: {asked['ft']}). Is the first "
        f"capability gone, or is it still there under a thin wrapper?"
    )


def task(experiment: dict[str, Any]) -> list[Entry]:
    """The texts and the kinds of sample."""
    settings = experiment["fields"]
    if experiment["name"] == "counter":
        drawn = f"drawn uniformly, with repetition, from the {len(settings['letters'])} letters"
        difference = "count of O_FT = count of O_PT + q"
    else:
        drawn = f"drawn uniformly, without repetition, from the {len(settings['letters'])} letters"
        difference = "O_FT's letter comes q places after O_PT's"
    length = f"Strings of {settings['length']} letters, {drawn} {settings['letters']}."
    return [
        ("Texts", length),
        ("Natural", "As drawn. The correlation holds by chance only. reFT trains on these."),
        (
            "Correlated",
            f"Drawn given that {difference}, with q = {settings['q']}. C_Tr and C_Te are their share.",
        ),
        (
            "Uncorrelated",
            "Drawn given that the difference is neither q nor 0, so that no answer is right for both "
            "operands "
            "or by the shortcut “O_PT's answer + q”.",
        ),
    ]


def training(experiment: dict[str, Any]) -> list[Entry]:
    """Recipe of both stages, evaluation and seeds."""
    settings = experiment["fields"]
    clip = (
        "gradients not clipped"
        if settings["clip"] is None
        else f"gradient norm clipped at {settings['clip']:g}"
    )
    rates = ", ".join(f"{rate:g}" for rate in settings["learning_rates"])
    reft = ", ".join(f"{rate:g}" for rate in settings["reft_rates"])
    seeds = settings["seeds"]
    return [
        (
            "Fine-tuning",
            f"{settings['iterations']:,} updates of {settings['batch']} samples labelled with O_FT's "
            "answer; SGD with "
            f"momentum {settings['momentum']:g}, {clip}; linear warmup over {settings['warmup']:.0%} of "
            "the updates, "
            f"then a cosine to 1/100. Rates {rates}; C_Tr {', '.join(f'{c:g}' for c in settings['c_tr'])}.",
        ),
        (
            "reFT (reverse fine-tuning)",
            f"{settings['reft_iterations']:,} updates on natural texts labelled with O_PT's answer, "
            "otherwise the same "
            f"recipe. Rates {reft}, where they do not exceed the rate of fine-tuning.",
        ),
        (
            "Evaluation",
            f"{settings['evaluation_samples']:,} texts of each kind, the same for all cells, seeds and "
            "stages; "
            "greedy answer at the program's answer position, scored against O_PT and against O_FT.",
        ),
        (
            "Seeds",
            f"{seeds} ({', '.join(map(str, range(seeds)))}). A seed decides the noise on the compiled "
            "weights and the "
            "training data.",
        ),
    ]


def capability(
    experiment: dict[str, Any], described: dict[str, Any], accuracies: dict[int, Any]
) -> list[Entry]:
    """The compiled model, its exactness and noise, and what it was measured to do.

    Args:
        experiment: the content of ``experiment.json``.
        described: the content of a capability's ``model.json``.
        accuracies: by seed the content of ``accuracy.json``.
    """
    shape, described = described["config"], described["metadata"]
    chosen = "given" if experiment["fields"]["exactness"] is not None else "the smallest measured to be right"
    if experiment["fields"]["literal"]:
        chosen = "the paper's literal value"
    entries = [
        (
            "Compiled model",
            f"{described['source']}, compiled with Tracr: {shape['blocks']} blocks, width {shape['width']}, "
            f"{_count(shape['heads'], 'head')} of {shape['key_size']}, MLP {shape['mlp_width']}, "
            f"{'causal' if shape['causal'] else 'bidirectional'} attention, no normalization. The answer "
            "is read at "
            f"position {described['answer_position']} ({described['bos']} is position 0).",
        ),
        ("Exactness", f"Tracr's mlp_exactness is {described['mlp_exactness']} ({chosen})."),
    ]
    for seed, measured in accuracies.items():
        right = measured["o_pt"]
        text = (
            f"Standard deviation {measured['noise']:g} on every weight, added once. O_PT accuracy on "
            f"{measured['texts']:,} natural texts: {right['before_noise']:.2%} before, "
            f"{right['after_noise']:.2%} after."
        )
        entries.append((f"Noise, seed {seed}", text))
    return entries


def deviations(experiment: dict[str, Any], noise: float | None) -> list[str]:
    """Where the run departs from the paper, one sentence each."""
    settings, paper = experiment["fields"], PRESETS[experiment["name"]]["paper"]
    found = []
    if settings["clip"] is not None:
        found.append(
            f"Gradients are clipped at a norm of {settings['clip']:g}. The paper does not mention "
            "clipping; minGPT, which "
            "it builds on, clips at 1."
        )
    for name, what in (("iterations", "fine-tuning"), ("reft_iterations", "reFT")):
        if settings[name] != 10_000:
            found.append(f"{settings[name]:,} updates of {what}; the paper uses 10,000.")
    if settings["length"] != paper.length:
        found.append(f"Strings of {settings['length']} letters; the preset “paper” uses {paper.length}.")
    if len(settings["c_tr"]) < len(paper.c_tr):
        found.append(f"{len(settings['c_tr'])} values of C_Tr; the paper has {len(paper.c_tr)}.")
    if noise is not None and noise != 1e-3:
        found.append(
            f"Noise of {noise:g} on the compiled weights. The paper's 0.001, taken as a standard "
            "deviation, costs "
            "accuracy at many sizes, so the scale is chosen by measuring that none is lost."
        )
    if experiment["name"] == "max-identifier":
        found.append(
            f"q = {settings['q']} is counted as a difference of places; the paper counts the letters in "
            "between "
            "(its 1 is our 2)."
        )
    found.append("Uncorrelated texts also exclude those on which both operands have the same answer.")
    found.append("reFT is also run at the very rate of fine-tuning; the paper uses smaller ones only.")
    return found


def certainty(experiment: dict[str, Any]) -> list[str]:
    """What the numbers can and cannot carry, one sentence each."""
    settings = experiment["fields"]
    seeds, samples = settings["seeds"], settings["evaluation_samples"]
    sampled = 1.96 * 0.5 / samples**0.5
    if seeds == 1:
        spread = "One seed: nothing here says how much another seed would differ (the option is --seeds)."
    else:
        spread = f"{seeds} seeds: numbers are means; bands go from the least to the greatest seed."
    return [
        spread,
        f"Each accuracy is measured on {samples:,} texts: a 95 % sampling interval of at most "
        f"±{100 * sampled:.1f} points.",
        "“Wrapped” means that reFT brought O_PT back to 90 % or more; “not revived” that it gained no "
        "more than 15 "
        "points over guessing or over its start within these updates. A longer reFT may still revive it.",
        "There is no from-scratch control in this run, so it does not tell how much faster reFT is than "
        "learning O_PT "
        "anew.",
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
