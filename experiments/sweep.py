"""Sweeps: one experiment with several values of any of its fields, as one run.

An experiment is already a grid over its list fields (learning_rates, c_tr, reft_rates, pretrained) and
seeds. Several values of any other field make the product of experiments; their cells are put together,
equal ones once, so that stages which points of the grid share are trained once.
"""

import difflib
import itertools
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from veneer.experiments.cells import FILES, Prepared, Read, UsersCode, prepare
from veneer.experiments.named import PRESETS, Experiment
from veneer.experiments.valid import validate
from veneer.tasks.errors import InputError

ALIASES = {"lr": "learning_rates", "learning_rate": "learning_rates", "reft_lr": "reft_rates"}
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Sweep:
    """A grid of experiments.

    Attributes:
        base: the first of them.
        axes: the fields that take several values, with these.
    """

    base: Experiment
    axes: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def experiments(self) -> list[Experiment]:
        """Every point of the grid, the last axis fastest."""
        names = list(self.axes)
        return [
            replace(self.base, **dict(zip(names, values, strict=True)))
            for values in itertools.product(*self.axes.values())
        ]


def sweep_of(base: Experiment, given: Mapping[str, Sequence[Any]]) -> Sweep:
    """An experiment with fields set to one or several values.

    Args:
        base: the experiment with its other values.
        given: values by field or alias, as texts or as they are.

    Raises:
        InputError: no such field, no value, a value twice or of another type, or an experiment of the
            grid that cannot be.
    """
    axes: dict[str, tuple[Any, ...]] = {}
    for word, texts in given.items():
        name = field_of(base, word)
        values: Any = read_values(base, name, texts)
        if _is_list(_hint(base, name)):
            base = replace(base, **{name: values})
        elif name in ("seeds", "first_seed") and len(values) > 1:
            raise InputError(name, values, "one value: the seeds of a run are an axis already")
        else:
            base = replace(base, **{name: values[0]})
            if len(values) > 1:
                axes[name] = values
    sweep = Sweep(base, axes)
    for experiment in sweep.experiments:
        validate(experiment)
    return sweep


def field_of(base: Experiment, word: str) -> str:
    """The field meant by a name or an alias, with dashes or underscores.

    Raises:
        InputError: there is none; the nearest are offered.
    """
    names = [part.name for part in fields(base)]
    name = word.replace("-", "_")
    name = ALIASES.get(name, name)
    if name in names:
        return name
    near = difflib.get_close_matches(name, [*names, *ALIASES], 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else ""
    raise InputError("axis", word, f"a field of {base.name}: {', '.join(names)}", hint)


def read_values(base: Experiment, name: str, given: Sequence[Any]) -> tuple[Any, ...]:
    """Values of a field, each in the field's type.

    Raises:
        InputError: none, one twice, or one of another type.
    """
    hint = _hint(base, name)
    texts = [str(value).lower() if isinstance(value, bool) else str(value).strip() for value in given]
    if _is_list(hint) and texts == ["none"]:
        return ()
    if not texts or "" in texts:
        empty = " (none leaves the list empty)" if _is_list(hint) else ""
        raise InputError(name, ",".join(texts), f"one value or more{empty}", "a value is missing")
    element = typing.get_args(hint)[0] if _is_list(hint) else hint
    values = tuple(_read(name, element, text) for text in texts)
    if len(set(values)) != len(values):
        raise InputError(name, values, "different values")
    return values


def _hint(base: Experiment, name: str) -> Any:
    return typing.get_type_hints(type(base))[name]


def is_list(base: Experiment, name: str) -> bool:
    """Whether an experiment has a field of this name, with several values."""
    return name in {part.name for part in fields(base)} and _is_list(_hint(base, name))


def _is_list(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple


def _read(name: str, hint: Any, text: str) -> Any:
    """One value of a type such as int, float | None, or one of several words."""
    if typing.get_origin(hint) is Literal:
        if text not in typing.get_args(hint):
            raise InputError(name, text, " or ".join(typing.get_args(hint)))
        return text
    if isinstance(hint, types.UnionType):
        if text.lower() == "none":
            return None
        hint, also = next(part for part in typing.get_args(hint) if part is not type(None)), ", or none"
    else:
        also = ""
    valid = f"{KINDS[hint]} (type {hint.__name__}){also}"
    try:
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        if hint is int and not text.lstrip("+-").isdecimal():
            whole = float(text)
            if not whole.is_integer():
                raise ValueError
            return int(whole)
        return hint(text)
    except (ValueError, KeyError, OverflowError):
        raise InputError(name, text, valid) from None


def split_words(
    base: Experiment, words: list[str], options: set[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """The words of a command line: values by field, and the words that are options.

    Values follow their flag, with commas or blanks between; ``--x`` and ``--no-x`` set a field x.

    Args:
        base: the experiment.
        words: flags and values.
        options: names of options, with underscores.

    Raises:
        InputError: a flag that is neither, or a value without one.
    """
    axes, rest, i = dict[str, list[str]](), list[str](), 0
    while i < len(words):
        flag, equals, value = words[i].partition("=")
        if not flag.startswith("--"):
            raise InputError("argument", words[i], "a flag such as --batch, then its values")
        end = i + 1
        while end < len(words) and not equals and not words[end].startswith("--"):
            end += 1
        name = flag[2:].replace("-", "_")
        if name in options or name.removeprefix("no_") in options or name in ("help", "h"):
            rest += words[i:end]
        else:
            negated = name.startswith("no_")
            own = field_of(base, name.removeprefix("no_") if negated else name)
            values = [value] if equals else words[i + 1 : end]
            if negated or (not values and _hint(base, own) is bool):
                values = ["false" if negated else "true"]
            axes[own] = [part for text in values for part in text.split(",")]
        i = end
    return axes, rest


def read_file(path: Path) -> tuple[str, dict[str, Any], dict[str, list[Any]]]:
    """A sweep written down: the experiment's name, options, and values by field (the table axes).

    Raises:
        InputError: not TOML, or with other keys.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError("file", str(path), "a TOML file", str(error)) from error
    except RecursionError as error:
        raise InputError("file", str(path), "a TOML file", "it is nested too deeply") from error
    name, axes = content.pop("experiment", None), content.pop("axes", {})
    if not isinstance(name, str) or name not in PRESETS:
        shown = name if isinstance(name, str | None) else f"a {type(name).__name__}"
        raise InputError("experiment", shown, ", ".join(PRESETS), f"in {path}")
    if not isinstance(axes, dict):
        raise InputError(
            "file", str(path), "a table [axes] with values by field", f"it is a {type(axes).__name__}"
        )
    given = {k: v if isinstance(v, list) else [v] for k, v in axes.items()}
    for field_name, values in {**{k: [v] for k, v in content.items()}, **given}.items():
        if strange := [value for value in values if not isinstance(value, bool | int | float | str)]:
            valid = "a number, a text, true or false; of a field also a list of such"
            raise InputError(str(field_name), f"a {type(strange[0]).__name__}", valid, f"in {path}")
    return name, content, given


def prepare_sweep(
    sweep: Sweep, code: UsersCode = FILES, slow: Callable[[], None] = lambda: None
) -> tuple[Prepared, pl.DataFrame | None]:
    """What trains: the cells of all experiments, equal ones once.

    Args:
        sweep: the grid.
        code: as for ``prepare``.
        slow: called before a capability is read or compiled, which may take a while.

    Returns:
        The cells and capabilities; and each cell's points of the grid (column cell, and one for each
        axis; a cell of several points has several rows), or None without axes.

    Raises:
        InputError: a field that cannot be used.
    """
    sources, cells, points, read = {}, {}, [], Read(code, slow)
    for experiment in sweep.experiments:
        prepared = prepare(experiment, code, read)
        own = {cell.id: cell for cell in prepared.cells}
        sources.update(prepared.sources)
        cells.update(own)
        points.append((list(own), *(getattr(experiment, name) for name in sweep.axes)))
    merged = Prepared(sources, list(cells.values()))
    if not sweep.axes:
        return merged, None
    grid = pl.DataFrame(points, schema=["cell", *sweep.axes], orient="row", infer_schema_length=None)
    return merged, grid.explode("cell")
