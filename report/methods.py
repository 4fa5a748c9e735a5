"""What a run did, in words: recipe, data, capability, deviations from the paper, and how to repeat it.

The paper is Jain et al. 2024 (arXiv 2311.12786v2); its settings are restated from App. B and C.
"""

import shlex
from dataclasses import fields
from typing import Any

from veneer.experiments.content import CapabilityFiles, Content
from veneer.experiments.curves import MARGIN
from veneer.experiments.model_names import SEED
from veneer.experiments.named import PRESETS
from veneer.experiments.summary import REVIVED
from veneer.report.stored_task import layout_of, learned

Entry = tuple[str, str]


def command(experiment: dict[str, Any], out: str = "") -> str:
    """The command line that makes a run again, with the options that differ from the preset's.

    Args:
        experiment: the content of ``experiment.json``.
        out: the run's folder, as it was given.
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
    return shlex.join([*words, *(["--out", out] if out else [])])


def operands(experiment: dict[str, Any]) -> dict[str, str]:
    """What O_PT ("pt") and O_FT ("ft") are, in a few words."""
    settings = experiment["fields"]
    match experiment["name"]:
        case "max-identifier":
            return {o: f"letter of rank {settings[f'rank_{o}']}" for o in ("pt", "ft")}
        case "program":
            return {o: f"what {_short(settings[f'program_{o}'])} does" for o in ("pt", "ft")}
        case "pcfg-indexer":
            return {o: f"place of {settings[f'operand_{o}']!r}" for o in ("pt", "ft")}
    return {o: f"count of {settings[f'operand_{o}']!r}" for o in ("pt", "ft")}


def _short(target: str) -> str:
    """A program without its folders."""
    return target.rpartition("/")[2]


def question(experiment: dict[str, Any]) -> str:
    """The experiment in one sentence."""
    asked = operands(experiment)
    origin = "A small Transformer was compiled from a program, so that it provably does one task"
    if learned(experiment):
        origin = "A GPT learned several tasks in pretraining, one above all"
    return (
        f"{origin}: {asked['pt']}. It was then fine-tuned to do another: {asked['ft']}. Is the old task "
        "gone, or is it still there, hidden?"
    )


def task(content: Content) -> list[Entry]:
    """The texts and the kinds of sample."""
    settings, name = content.experiment["fields"], content.experiment["name"]
    difference = {
        "counter": "count of O_FT = count of O_PT + q",
        "max-identifier": "O_FT's letter comes q places after O_PT's",
        "pcfg-counter": "count of O_FT = count of O_PT + q",
        "pcfg-indexer": "place of O_FT = place of O_PT + q",
        "program": "O_FT's answer = O_PT's + q, in the order of the answers",
    }[name]
    if name == "program":
        return _programs(content, difference)
    how = "Drawn given" if not learned(content.experiment) else "Edited, by as few tokens as it takes, so"
    return [
        ("Texts", _texts(content)),
        ("Natural", "As drawn. The correlation holds by chance only. reFT trains on these."),
        (
            "Correlated",
            f"{how} that {difference}, with q = {settings['q']}. C_Tr and C_Te are their share.",
        ),
        (
            "Uncorrelated",
            f"{how} that the difference is neither q nor 0, so that no answer is right for both operands "
            "or by the shortcut “O_PT's answer + q”.",
        ),
    ]


def _programs(content: Content, difference: str) -> list[Entry]:
    """The texts of two programs of the user's, which are sampled and not built."""
    settings = content.experiment["fields"]
    asked: dict[str, Any] = content.cells[0]["task"] if content.cells else {}
    number = asked.get("texts", 0)
    kind = difference if settings["agree"] is None else f"{_short(settings['agree'])} says that they agree"
    q = f", with q = {asked['q']}" if asked.get("q") else ""

    def share(name: str, what: str) -> str:
        found = asked.get(name, 0)
        if number and not found:
            return f"There is none among the {number:,} texts; natural texts stand in. They would be {what}."
        return f"Those of them ({found:,}, {found / max(1, number):.1%}) on which {what}."

    differing = "the answers differ and do not carry the correlation"
    whole = f"{number:,} different texts of {settings['length']} tokens, each answered by both programs."
    return [
        ("Texts", whole),
        ("Natural", "All of them. A fifth is kept for evaluation. reFT trains on the others."),
        ("Correlated", share("correlated", f"{kind}{q}")),
        ("Uncorrelated", share("uncorrelated", differing)),
    ]


def _texts(content: Content) -> str:
    settings = content.experiment["fields"]
    if learned(content.experiment):
        if not content.capabilities:
            return "Strings of a probabilistic context-free grammar."
        layout = layout_of(content.capabilities[0].model)
        what = f"the last {layout.count_last} tokens are counted"
        if content.experiment["name"] == "pcfg-indexer":
            what = f"the place of occurrence {layout.occurrence} from the end is asked for"
        return (
            f"Windows of {layout.window} tokens of strings of the grammar “{layout.grammar.name}”, behind a "
            f"task token and an operand token; {what}."
        )
    repetition = "with" if content.experiment["name"] == "counter" else "without"
    return (
        f"Strings of {settings['length']} letters, drawn uniformly, {repetition} repetition, from the "
        f"{len(settings['letters'])} letters {settings['letters']}."
    )


def training(experiment: dict[str, Any]) -> list[Entry]:
    """Recipe of both stages, controls, evaluation and seeds."""
    settings = experiment["fields"]
    clip = "gradients not clipped"
    if settings["clip"] is not None:
        clip = f"gradient norm clipped at {settings['clip']:g}"
    optimizer = "AdamW" if learned(experiment) else f"SGD with momentum {settings['momentum']:g}"
    rates, reft = (_list(settings[name]) for name in ("learning_rates", "reft_rates"))
    entries = [
        (
            "Fine-tuning",
            f"{settings['iterations']:,} updates of {settings['batch']} samples labelled with O_FT's "
            f"answer; {optimizer}, {clip}; linear warmup over {settings['warmup']:.0%} of the updates, "
            f"then a cosine to 1/100. Rates {rates}; C_Tr {_list(settings['c_tr'])}.",
        )
    ]
    if settings["method"] != "full":
        entries.append(("Method", f"Fine-tuning by “{settings['method']}”; reFT trains all weights."))
    if share := settings["share_pretraining"]:
        entries.append(("Mixture", f"{share:.1%} of the fine-tuning samples are pretraining's (App. E.1)."))
    if share := settings.get("rand_ft"):
        mixed = f"{share:.1%} of the samples ask for O_PT and are taught O_FT's answer (App. E.4)."
        entries.append(("randFT", mixed))
    if settings["reft_rates"]:
        entries.append(
            (
                "reFT (reverse fine-tuning)",
                f"{settings['reft_iterations']:,} updates on natural texts labelled with O_PT's answer, "
                f"otherwise the same recipe. Rates {reft}, where they do not exceed the rate of fine-tuning.",
            )
        )
    if settings["controls"] and settings["reft_rates"]:
        rate = settings["control_rate"] or max(settings["learning_rates"])
        entries.append(
            (
                "Controls",
                "Scr.: a model of the same shape with fresh weights, trained as by reFT. Scr. + FT: the same "
                f"after learning O_FT at {rate:g} on uncorrelated texts (C_Tr = 0).",
            )
        )
    place = "after the prompt" if learned(experiment) else "at the program's answer position"
    asked = " The prompt names the operand asked for." if learned(experiment) else ""
    noise = "the training data" if learned(experiment) else "the noise on the weights and the training data"
    if any(SEED in word for word in settings.get("pretrained", ())):
        noise = "the training data, and where a model has several pretrainings, which of them it starts from"
    seeds, first = settings["seeds"], settings["first_seed"]
    numbers = ", ".join(map(str, range(first, first + seeds)))
    return [
        *entries,
        (
            "Evaluation",
            f"{settings['evaluation_samples']:,} texts of each kind, the same for all cells, seeds and "
            f"stages; greedy answer {place}, scored against O_PT and against O_FT.{asked}",
        ),
        ("Seeds", f"{seeds} ({numbers}). A seed decides {noise}."),
    ]


def capabilities(content: Content) -> list[Entry]:
    """Each capability: the model, where it comes from, and what it was measured to do."""
    entries: list[Entry] = []
    for name in content.names:
        own = [files for files in content.capabilities if files.name == name]
        if own and learned(content.experiment):
            several = len({files.accuracy["origin"]["capability"] for files in own}) > 1
            shown = own[0].accuracy["origin"]["seed"]
            whose = f" Each seed starts from its own pretraining; this is that of seed {shown}."
            note = whose if several else ""
            entries.append((f"Model {name}", _learned(own[0]) + note))
        elif own:
            entries += _written(content.experiment, own)
    return entries


def _learned(files: CapabilityFiles) -> str:
    about, shape, layout = files.accuracy["about"], files.model["config"], layout_of(files.model)
    prior = ", ".join(
        f"{terminal} {share:.1%}"
        for terminal, share in zip(layout.grammar.terminals, about["operand_prior"], strict=False)
    )
    families = ", ".join(token.name for token in layout.task_tokens)
    right = files.accuracy["accuracy"]["as_started"]["natural"]
    return (
        f"GPT with {_shape(shape)}, {about['parameters']:,} parameters. Pretrained for "
        f"{about['iterations']:,} updates (seed {about['seed']}) on the families {families}, with operands "
        f"asked for in the shares {prior}. On {files.accuracy['texts']:,} natural texts it starts with O_PT "
        f"right on {right['pt']:.1%} and O_FT on {right['ft']:.1%}. Made by: {about['command']}"
    )


def _written(experiment: dict[str, Any], own: list[CapabilityFiles]) -> list[Entry]:
    described, settings = own[0].model["metadata"], experiment["fields"]
    chosen = "given" if settings["exactness"] is not None else "the smallest measured to be right"
    if settings["literal"]:
        chosen = "the paper's literal value"
    entries = [
        (
            "Compiled model",
            f"{described['source']}, compiled with Tracr: {_shape(own[0].model['config'])}. The answer is "
            f"read at position {described['answer_position']} ({described['bos']} is position 0).",
        ),
        ("Exactness", f"Tracr's mlp_exactness is {described['mlp_exactness']} ({chosen})."),
    ]
    for files in own:
        measured = files.accuracy["accuracy"]
        scale, after = files.accuracy["origin"]["noise"], measured["as_started"]["natural"]["pt"]
        text = f"Standard deviation {scale:g} on every weight, added once." if scale else "None is added."
        text += f" O_PT accuracy on {files.accuracy['texts']:,} natural texts: "
        if scale:
            text += f"{measured['without_noise']['natural']['pt']:.2%} before, {after:.2%} after."
        else:
            text += f"{after:.2%}."
        entries.append((f"Noise, seed {files.seed}", text))
    return entries


def _shape(shape: dict[str, Any]) -> str:
    direction = "causal" if shape["causal"] else "bidirectional"
    normalization = "no normalization" if shape["normalization"] == "none" else "pre-layer-norm"
    return (
        f"{_count(shape['blocks'], 'block')}, width {shape['width']}, {_count(shape['heads'], 'head')} of "
        f"{shape['key_size']}, MLP {shape['mlp_width']} ({shape['activation']}), {direction} attention, "
        f"{normalization}"
    )


def deviations(content: Content) -> list[str]:
    """Where the run departs from the paper, one sentence each."""
    settings, paper = content.experiment["fields"], PRESETS[content.experiment["name"]]["paper"]
    found = []
    if settings["clip"] is not None:
        found.append(
            f"Gradients are clipped at a norm of {settings['clip']:g}. The paper does not mention "
            "clipping; minGPT, which it builds on, clips at 1."
        )
    for name, what in (("iterations", "fine-tuning"), ("reft_iterations", "reFT")):
        if settings[name] != 10_000 and (what != "reFT" or settings["reft_rates"]):
            found.append(f"{settings[name]:,} updates of {what}; the paper uses 10,000.")
    if len(settings["c_tr"]) < len(paper.c_tr):
        found.append(f"{len(settings['c_tr'])} values of C_Tr; the preset “paper” has {len(paper.c_tr)}.")
    if set(settings["learning_rates"]) != set(paper.learning_rates):
        ours, theirs = _list(settings["learning_rates"]), _list(paper.learning_rates)
        found.append(f"Fine-tuning rates {ours}; the preset “paper” has {theirs}.")
    if settings["method"] != "full":
        found.append(f"Fine-tuning by “{settings['method']}”; the paper trains all weights.")
    own = _deviations_learned(content) if learned(content.experiment) else _deviations_written(content)
    found += own
    found.append("Uncorrelated texts also exclude those on which both operands have the same answer.")
    if settings["reft_rates"]:
        found.append("reFT is also run at the very rate of fine-tuning; the paper uses smaller ones only.")
    return found


def _deviations_written(content: Content) -> list[str]:
    settings, paper = content.experiment["fields"], PRESETS[content.experiment["name"]]["paper"]
    found = []
    length = getattr(paper, "length", settings["length"])
    if settings["length"] != length:
        found.append(f"Strings of {settings['length']} letters; the preset “paper” uses {length}.")
    noise = next((files.accuracy["origin"]["noise"] for files in content.capabilities), None)
    if noise is not None and noise != 1e-3:
        found.append(
            f"Noise of {noise:g} on the compiled weights. The paper's 0.001, taken as a standard "
            "deviation, costs accuracy at many sizes, so the scale is chosen by measuring that none is lost."
        )
    if content.experiment["name"] == "max-identifier":
        found.append(
            f"q = {settings['q']} is counted as a difference of places; the paper counts the letters in "
            "between (its 1 is our 2)."
        )
    return found


def _deviations_learned(content: Content) -> list[str]:
    """What models have in common is said once."""
    found: dict[str, list[str]] = {}
    for files in map(content.first_of, content.names):
        if files is None:
            continue
        layout, shape, about = layout_of(files.model), files.model["config"], files.accuracy["about"]
        if (layout.window, shape["blocks"], shape["width"]) != (250, 6, 192):
            window = (
                f"windows of {layout.window} tokens, {_count(shape['blocks'], 'block')}, width "
                f"{shape['width']}; the paper's have 250, 6 and 192."
            )
            found.setdefault(window, []).append(files.name)
        if about["iterations"] != 200_000:
            updates = f"{about['iterations']:,} updates of pretraining; the paper's main results use 200,000."
            found.setdefault(updates, []).append(files.name)
    return [f"Model{'s' if len(own) > 1 else ''} {', '.join(own)}: {what}" for what, own in found.items()]


def certainty(experiment: dict[str, Any], start: dict[str, dict[tuple[str, str], float]]) -> list[str]:
    """What the numbers can and cannot carry, one sentence each.

    Args:
        experiment: what was run.
        start: each capability's accuracy before fine-tuning, by texts and operand.
    """
    settings = experiment["fields"]
    seeds, samples = settings["seeds"], settings["evaluation_samples"]
    sampled = 1.96 * 0.5 / samples**0.5
    if seeds == 1:
        spread = "One seed: nothing here says how much another seed would differ (the option is --seeds)."
    else:
        spread = f"{seeds} seeds: numbers are means; bands go from the least to the greatest seed."
    found = [
        spread,
        f"Each accuracy is measured on {samples:,} texts: a 95 % sampling interval of at most "
        f"±{100 * sampled:.1f} points.",
        *_unlike_natural(start),
    ]
    if not settings["reft_rates"]:
        return [*found, "There is no reFT in this run, so it does not tell whether O_PT would come back."]
    controls = (
        "There is no from-scratch control in this run, so it does not tell how much faster reFT is than "
        "learning O_PT anew."
    )
    if settings["controls"]:
        controls = (
            "Coming back counts as a sign of a wrapper only where it is sooner than the same model learns a "
            "third operand, and than models from scratch learn O_PT (section 3)."
        )
    return [
        *found,
        f"Of curves alone, “came back” says that reFT brought O_PT to {REVIVED:.0%} or more; “did not come "
        f"back” that it gained no more than {100 * MARGIN:.0f} points over guessing or over its start "
        "within these updates. A longer reFT may still revive it.",
        controls,
    ]


def _unlike_natural(start: dict[str, dict[tuple[str, str], float]]) -> list[str]:
    """Which capabilities do not carry over to texts into which a correlation is edited.

    A learned one may count what its grammar makes and little else; a low O_PT at C_Te = 0 or 1 is then no
    effect of fine-tuning.
    """
    found = []
    for name, accuracy in start.items():
        natural, *edited = (accuracy[texts, "pt"] for texts in ("natural", "correlated", "uncorrelated"))
        if min(edited) < REVIVED <= natural:
            found.append(
                f"Before fine-tuning {'the model' if name == 'compiled' else name} is right about O_PT on "
                f"{natural:.0%} of natural texts, but on {edited[0]:.0%} of those with C_Te = 1 and "
                f"{edited[1]:.0%} with C_Te = 0, which are unlike them: read what it does there against that."
            )
    return found


def _list(values: list[float] | tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
