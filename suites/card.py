"""The dataset card: ``README.md`` with Hugging Face's front matter, and its pictures.

With the front matter ``datasets.load_dataset`` finds splits and column types without a network. The
pictures are PNG files without a date in them, so that they too are the same bytes every time.
"""

import json
import re
from pathlib import Path
from typing import Any

from veneer.models.files import write_text

_HF_TYPES = {
    "Int64": "int64",
    "Int32": "int32",
    "String": "string",
    "Boolean": "bool",
    "List(UInt8)": "uint8",
    "List(UInt16)": "uint16",
}
_SIZES = [
    (1000, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
]
SUFFIXES = ("parquet", "jsonl")
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#8A8A8A"  # old task, new task, neither: as in the report
_MOST_BARS = 60
_SHOWN_FILES = 200

COLUMNS = {
    "id": "number of the sample, running through all splits",
    "text": "the text",
    "tokens": "ids of all that a model reads; `vocabulary` in `dataset.json` names them",
    "operand": "the operand asked",
    "label": "the answer to it",
    "operand_pt": "O_PT",
    "operand_ft": "O_FT",
    "result_pt": "r(x, O_PT): the answer for O_PT",
    "result_ft": "r(x, O_FT): the answer for O_FT",
    "correlated": "whether r(x, O_FT) − r(x, O_PT) = q",
    "answer_position": "index in `tokens` at which the answer is read",
    "label_id": "index of the label among `answers` in `dataset.json` (of a program: among its labels)",
}


def write_card(manifest: dict[str, Any], folder: Path) -> None:
    """Write ``README.md`` and ``figures/``."""
    (folder / "figures").mkdir(exist_ok=True)
    draw_labels(manifest["splits"], folder / "figures" / "labels.png")
    draw_differences(manifest["splits"], manifest["q"], folder / "figures" / "correlation.png")
    write_text(folder / "README.md", card(manifest))


def card(manifest: dict[str, Any]) -> str:
    """The text of ``README.md``."""
    plan = manifest["plan"]
    parts = [
        front_matter(manifest),
        f"# {literal(manifest['name'])}",
        _about(manifest),
        "## Made by",
        fenced(manifest["command"]),
        "With " + ", ".join(f"{name} {version}" for name, version in manifest["made_with"].items()) + ". "
        "The same command with the same versions gives the same bytes, on any number of processes.",
        "## Splits",
        _splits(manifest),
        "*C* is the share of correlated samples that was asked for. *Majority* is the accuracy of always "
        'giving the commonest label. *Shortcut* is the accuracy of "O_PT\'s answer + q" on the samples that '
        "ask for O_FT. A model is worth looking at above both.",
        "## Labels",
        "![How often each answer occurs, for O_PT and O_FT](figures/labels.png)",
        "## Correlation",
        "![How often each difference of the two answers occurs](figures/correlation.png)",
        "## Columns",
        _columns(manifest),
        "## Loading",
        _loading(plan["formats"], "label_id" if "label_id" in manifest["columns"] else "label"),
        "## Checksums",
        _checksums(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def literal(text: str) -> str:
    """A name or token in Markdown, in which it would otherwise be read as markup."""
    return re.sub(r"([\\`*_\[\]<>#|&~$!])", r"\\\1", " ".join(text.split()))


def fenced(command: str) -> str:
    """A command as a block of code, in a fence longer than any in it."""
    longest = max(map(len, re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n{command}\n{fence}"


def front_matter(manifest: dict[str, Any]) -> str:
    """YAML that Hugging Face reads: files of every split, features, sizes, licence."""
    plan = manifest["plan"]
    lines = ["---", f"pretty_name: {json.dumps(manifest['name'])}", f"license: {plan['license']}"]
    return _configured(lines, {"default": ("", manifest)})


def suite_front_matter(manifests: dict[str, dict[str, Any]]) -> str:
    """The same for a suite: a configuration for each dataset, in a folder of its name."""
    licenses = sorted({manifest["plan"]["license"] for manifest in manifests.values()})
    lines = ["---", "license:", *(f"- {license}" for license in licenses)]
    return _configured(lines, {name: (f"{name}/", manifest) for name, manifest in manifests.items()})


def _configured(lines: list[str], configs: dict[str, tuple[str, dict[str, Any]]]) -> str:
    """Front matter with the configurations: by name, the folder in front and what is in it."""
    manifests = [manifest for _, manifest in configs.values()]
    samples = sum(split["samples"] for own in manifests for split in own["plan"]["splits"])
    size = next((name for limit, name in _SIZES if samples < limit), "n>10M")
    lines += ["size_categories:", f"- {size}", "tags:", "- synthetic", "- veneer"]
    lines += ["- mechanistic-interpretability", "- spurious-correlation", "configs:"]
    # One format only: the library reads all configurations of a folder with one reader.
    formats = manifests[0]["plan"]["formats"]
    suffix = next(suffix for suffix in SUFFIXES if suffix in formats)
    for name, (folder, manifest) in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in manifest["plan"]["splits"]:
            files = f"{folder}data/{split['name']}-?????-of-?????.{suffix}"
            lines += [f"  - split: {split['name']}", f"    path: {files}"]
    lines += ["dataset_info:"]
    for name, (_, manifest) in configs.items():
        lines += _features(name, manifest, suffix)
    return "\n".join([*lines, "---"])


def _features(config: str, manifest: dict[str, Any], suffix: str) -> list[str]:
    lines = [f"- config_name: {config}", "  features:"]
    for name, kind in manifest["columns"].items():
        key = "list" if kind.startswith("List") else "dtype"
        lines += [f"  - name: {name}", f"    {key}: {_HF_TYPES[kind]}"]
    lines += ["  splits:"]
    for split in manifest["plan"]["splits"]:
        files = [
            e["bytes"]
            for f, e in manifest["files"].items()
            if re.match(rf"data/{split['name']}-\d.*{suffix}", f)
        ]
        lines += [f"  - name: {split['name']}", f"    num_bytes: {sum(files)}"]
        lines += [f"    num_examples: {split['samples']}"]
    return lines


def _about(manifest: dict[str, Any]) -> str:
    plan = manifest["plan"]
    task = plan["task"]
    pairs = ", ".join(f"{literal(pt)} and {literal(ft)}" for pt, ft in task["pairs"])
    lines = [f"{literal(task['about'])} O_PT and O_FT: {pairs}."]
    if manifest["q"] is not None:
        lines.append(
            f"A sample carries the spurious correlation when r(x, O_FT) − r(x, O_PT) = {manifest['q']} "
            "(Jain et al. 2024, arXiv 2311.12786): a model can then answer for O_FT by computing the answer "
            "for O_PT and adding a constant. In uncorrelated samples that difference is neither this nor 0."
        )
    lines.append("No text occurs twice, in one split or in two.")
    if plan["held_out_by"]:
        names = ", ".join(split["name"] for split in plan["splits"] if split["held_out"])
        values = ", ".join(literal(str(value)) for value in plan["held_out"])
        lines.append(
            f"Held out: texts with {plan['held_out_by']} {values} occur in {names}, and nowhere else."
        )
    if task.get("held_out_pairs"):
        held = ", ".join(f"{literal(pt)} and {literal(ft)}" for pt, ft in task["held_out_pairs"])
        names = ", ".join(split["name"] for split in plan["splits"] if split["held_out"])
        lines.append(f"Held out: the operands {held} are asked in {names}, and nowhere else.")
    return " ".join(lines)


def _splits(manifest: dict[str, Any]) -> str:
    lines = [
        "| split | samples | C | correlated | uncorrelated | r of the answers | majority | shortcut |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for split in manifest["plan"]["splits"]:
        found = manifest["splits"][split["name"]]
        c = "natural" if split["c"] is None else f"{split['c']:g}"
        shares = [f"{found[name] / found['samples']:.2%}" for name in ("correlated", "uncorrelated")]
        pearson = "–" if found["pearson"] is None else f"{found['pearson']:.3f}"
        shortcut = "–" if found["shortcut"] is None else f"{found['shortcut']:.2%}"
        majority = f"{found['majority']:.2%} ({literal(str(found['majority_label']))})"
        cells = [split["name"], f"{found['samples']:,}", c, *shares, pearson, majority, shortcut]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _columns(manifest: dict[str, Any]) -> str:
    rows = [f"| `{name}` | {kind} | {COLUMNS[name]} |" for name, kind in manifest["columns"].items()]
    return "\n".join(["| column | type | what it is |", "|---|---|---|", *rows])


def _loading(formats: list[str], label: str) -> str:
    suffix = next(suffix for suffix in SUFFIXES if suffix in formats)
    reader = {"parquet": "read_parquet", "jsonl": "read_ndjson"}[suffix]
    return f"""```python
import datasets, polars, torch

polars.{reader}("DIR/data/*.{suffix}")
data = datasets.load_dataset("DIR").with_format("torch")
batches = torch.utils.data.DataLoader(next(iter(data.values())), batch_size=96)
tokens, labels = (next(iter(batches))[name] for name in ("tokens", "{label}"))
```

`veneer verify DIR` checks all that is said here, and `veneer evaluate DIR --predictions FILE` scores the
predictions of a model (columns `id` and `prediction`)."""


def _checksums(manifest: dict[str, Any]) -> str:
    files = list(manifest["files"].items())
    lines = [f"{entry['sha256']}  {name}" for name, entry in files[:_SHOWN_FILES]]
    rest = (
        f"\nThe other {len(files) - _SHOWN_FILES} are in `dataset.json`." if len(files) > _SHOWN_FILES else ""
    )
    return "SHA-256, as `sha256sum --check` reads it:\n\n```\n" + "\n".join(lines) + "\n```" + rest


def draw_labels(splits: dict[str, dict[str, Any]], path: Path) -> None:
    """One row per split: how often each answer occurs, for O_PT and for O_FT."""
    figure, axes = _rows_of_axes(len(splits))
    for axis, (name, split) in zip(axes, splits.items(), strict=True):
        values = _common(split["results_pt"], split["results_ft"])
        for shift, key, color in ((-0.2, "results_pt", _BLUE), (0.2, "results_ft", _ORANGE)):
            shares = [split[key].get(value, 0) / split["samples"] for value in values]
            places = [i + shift for i in range(len(values))]
            axis.bar(places, shares, 0.4, color=color, label=f"O_{key[-2:].upper()}")
        _label(axis, values, f"{name} ({split['samples']:,} samples)")
    axes[0].legend(frameon=False, fontsize=8)
    axes[-1].set_xlabel("answer")
    _save(figure, path)


def draw_differences(splits: dict[str, dict[str, Any]], q: int | None, path: Path) -> None:
    """One row per split: how often each difference occurs, q standing out."""
    figure, axes = _rows_of_axes(len(splits))
    for axis, (name, split) in zip(axes, splits.items(), strict=True):
        values = _common(split["differences"])
        shares = [split["differences"].get(value, 0) / split["samples"] for value in values]
        colors = [_ORANGE if q is not None and float(value) == q else _GREY for value in values]
        axis.bar(range(len(values)), shares, 0.8, color=colors)
        title = (
            "no numbers to subtract"
            if not values
            else f"{split['correlated'] / split['samples']:.2%} have q = {q}"
        )
        _label(axis, values, f"{name}: {title}")
    axes[-1].set_xlabel("r(x, O_FT) − r(x, O_PT)")
    _save(figure, path)


def _common(*tallies: dict[str, int]) -> list[str]:
    """The values that occur, in their order, and whole numbers between them; of very many, the commonest."""
    values = list(dict.fromkeys(value for tally in tallies for value in tally))
    if values and all(re.fullmatch(r"-?\d+", value) for value in values):
        whole = [int(value) for value in values]
        if max(whole) - min(whole) < _MOST_BARS:
            return [str(value) for value in range(min(whole), max(whole) + 1)]
    often = {value: sum(tally.get(value, 0) for tally in tallies) for value in values}
    kept = set(sorted(values, key=lambda value: -often[value])[:_MOST_BARS])
    numeric = all(re.fullmatch(r"-?(\d+\.?\d*|\.\d+)", value) for value in values)
    return sorted(kept, key=float) if numeric else sorted(kept)


def _rows_of_axes(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    height = 1.9 * count + 0.5
    figure = Figure(figsize=(8, height))
    axes = list(figure.subplots(count, squeeze=False)[:, 0])
    figure.subplots_adjust(0.09, 0.5 / height, 0.98, 1 - 0.3 / height, hspace=0.5)
    return figure, axes


def _label(axis: Any, values: list[str], title: str) -> None:
    step = max(1, len(values) // 15)
    axis.set_xticks(
        range(0, len(values), step), [value[:12] for value in values[::step]], fontsize=8, parse_math=False
    )
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_ylabel("share", fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
