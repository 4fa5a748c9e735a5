"""A story with its instruction: writing and reading the form of TinyStories-Instruct.

An instruction has the lines ``Words:``, ``Features:`` (left out where there are none), ``Summary:`` and
``Sentence:`` (in files of the hub ``Random sentence:``), in any order; then ``Story:`` and the story itself.
Jain et al. 2024 (App. F, Fig. 17) train on these texts, with the lines in random order.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veneer.tasks.errors import InputError

SEPARATOR = "<|endoftext|>"  # between the texts of a file
LINES = ("Words", "Features", "Summary", "Sentence")
_LINE = re.compile(r"^(Words|Features|Summary|Sentence|Random sentence|Story):[ \t]*(.*)$")
_COMMAS = re.compile(r",\s*")


@dataclass(frozen=True)
class Record:
    """A story and what its instruction says of it.

    Attributes:
        words: that occur in the story.
        features: that the instruction asks for.
        summary: of the story.
        sentence: one that occurs in the story; empty where the instruction gives none.
        story: the story itself.
        order: in which the instruction's lines stand.
    """

    words: tuple[str, ...]
    features: tuple[str, ...]
    summary: str
    sentence: str
    story: str
    order: tuple[str, ...] = LINES

    @property
    def instruction(self) -> str:
        """All up to the story: what a model is prompted with."""
        values = {
            "Words": ", ".join(self.words),
            "Features": ", ".join(self.features),
            "Summary": self.summary,
            "Sentence": self.sentence,
        }
        lines = [f"{name}: {values[name]}\n" for name in self.order if values[name]]
        return f"{''.join(lines)}Story:\n\n"

    @property
    def text(self) -> str:
        """Instruction and story: what a model is trained on."""
        return f"{self.instruction}{self.story}\n"


def parse(text: str) -> Record:
    """Read one text of the form.

    Raises:
        InputError: no story, or a line twice.
    """
    values: dict[str, str] = {}
    rows = iter(text.strip().splitlines())
    for row in rows:
        found = _LINE.match(row)
        if found and (name := found[1].removeprefix("Random ").capitalize()) in values:
            raise InputError("text", row, "each line of the instruction once")
        if found is None:
            continue
        values[name] = found[2].strip()
        if name == "Story":
            values[name] = "\n".join([found[2], *rows]).strip()
    if not values.get("Story"):
        raise InputError("text", text[:60], "an instruction, a line 'Story:' and a story")
    listed = {
        name: tuple(filter(None, _COMMAS.split(values.get(name, "")))) for name in ("Words", "Features")
    }
    order = tuple(name for name in values if name != "Story")
    return Record(
        listed["Words"],
        listed["Features"],
        values.get("Summary", ""),
        values.get("Sentence", ""),
        values["Story"],
        (*order, *(name for name in LINES if name not in order)),
    )


def load(path: Path) -> Iterator[Record]:
    """The records of a file of TinyStories-Instruct, one after the other, in bounded memory for text files.

    Args:
        path: a text file whose texts stand between ``<|endoftext|>``, or a ``.json`` shard of the release
            with metadata (a list of objects with ``story``, ``summary`` and ``instruction``, where words
            and features are).

    Raises:
        InputError: a file that is not there or not of either kind; the number of the text at fault is named.
    """
    try:
        if path.suffix == ".json":
            yield from _load_shard(path)
            return
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(_split(file), 1):
                yield _numbered(parse, text, path, number)
    except OSError as error:
        raise InputError("file", str(path), "a file of stories", error.strerror or "") from error
    except UnicodeDecodeError as error:
        raise InputError("file", str(path), "text in UTF-8") from error


def _load_shard(path: Path) -> Iterator[Record]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("file", str(path), "a list of stories in JSON", str(error)) from error
    if not isinstance(rows, list):
        raise InputError("file", str(path), "a list of stories in JSON")
    for number, row in enumerate(rows, 1):
        yield _numbered(_from_json, row, path, number)


def _from_json(row: Any) -> Record:
    instruction = row["instruction"]
    words, features = (tuple(map(str, instruction.get(name, ()))) for name in ("words", "features"))
    story = str(row["story"]).strip()
    if not story:
        raise InputError("story", row["story"], "a story")
    return Record(words, features, str(row.get("summary", "")).strip(), "", story)


def _numbered(read: Any, content: Any, path: Path, number: int) -> Record:
    try:
        return read(content)
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "file", str(path), "records of TinyStories-Instruct", f"text {number}: {error}"
        ) from error


def _split(file: Any) -> Iterator[str]:
    """The texts between separators, read line by line."""
    rows: list[str] = []
    for row in file:
        before, found, after = row.partition(SEPARATOR)
        rows.append(before)
        if found:
            if text := "".join(rows).strip():
                yield text
            rows = [after]
    if text := "".join(rows).strip():
        yield text
