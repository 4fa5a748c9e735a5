"""What every command line may say besides its command: how much is shown, and whether as JSON.

``--quiet`` leaves the results alone: no bar, no stage lines, no next step. ``--log-level`` is that of
Python's logging, on standard error. ``--json`` prints what a command tells as one JSON object instead of
tables, and ``--json FILE.json`` writes it to a file beside them. Nothing heavy is imported here.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from veneer.tasks.errors import InputError

FORMAT = 1
"""Of the JSON objects; docs/terminal.md describes them."""
LEVELS = ("debug", "info", "warning", "error")
TELLING = (
    "analyse",
    "claims",
    "compare",
    "evaluate",
    "list",
    "relearn",
    "run",
    "status",
    "sweep",
    "verify",
)
"""The commands that tell something."""


@dataclass(frozen=True)
class Manners:
    """How this process speaks.

    Attributes:
        quiet: results only.
        log_level: of Python's logging.
        json: "none", "print" or "file".
        command: the command that was called.
        file: the file of the latter.
    """

    quiet: bool = False
    log_level: str = "warning"
    json: Literal["none", "print", "file"] = "none"
    file: Path | None = None
    command: str = ""


_current = Manners()


def current() -> Manners:
    """How this process speaks; a process has one terminal."""
    return _current


def harmless(text: str) -> str:
    """A text without what moves a terminal's cursor or colours it: such signs become question marks."""
    return "".join(
        "?" if (sign < " " and sign not in "\n\t") or "\x7f" <= sign < "\xa0" else sign for sign in text
    )


def runs_folder() -> Path:
    """Where runs lie that are not given a folder: $VENEER_RUNS, else runs."""
    return Path(os.environ.get("VENEER_RUNS") or "runs")


def take(words: list[str]) -> tuple[list[str], Manners]:
    """The words that are left for the command, and the manners that the others ask for.

    Args:
        words: the whole command line.

    Raises:
        InputError: a level that does not exist.
    """
    kept, found, i = list[str](), Manners(), 0
    while i < len(words):
        flag, equals, value = words[i].partition("=")
        following = words[i + 1] if i + 1 < len(words) else ""
        if words[i] in ("--quiet", "-q"):
            found = replace(found, quiet=True)
        elif flag == "--log-level":
            level = value if equals else following
            if level not in LEVELS:
                raise InputError("log-level", level, ", ".join(LEVELS))
            found, i = replace(found, log_level=level), i + (not equals)
        elif flag == "--json" and (equals or following.endswith(".json")):
            found, i = (
                replace(found, json="file", file=Path(value if equals else following)),
                i + (not equals),
            )
        elif flag == "--json":
            found = replace(found, json="print")
        else:
            kept.append(words[i])
        i += 1
    return kept, found


def behave(manners: Manners, command: str) -> None:
    """Speak like that from now on.

    Raises:
        InputError: JSON of a command that has nothing to tell.
    """
    global _current
    if manners.json != "none" and command not in TELLING:
        raise InputError("json", command, f"a command that tells something: {', '.join(TELLING)}")
    _current = replace(manners, command=command)
    shape = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=manners.log_level.upper(), format=shape, stream=sys.stderr)
    printed = manners.json == "print"
    shown = sys.modules.get("veneer.commands.screen")  # one loaded later asks for the manners itself
    if shown is not None:
        shown.console.quiet = printed


def tell(command: str, content: Mapping[str, Any]) -> bool:
    """Give what a command tells as JSON, if that was asked for.

    Args:
        command: its name; a command that another one calls on the way tells nothing.
        content: plain data; what is not finite becomes null.

    Returns:
        Whether that was all: then no table is to be shown.

    Raises:
        InputError: the file cannot be written.
    """
    if _current.json == "none" or _current.command != command:
        return _current.json == "print"
    whole = {"format": FORMAT, "command": command, **content}
    if _current.json == "print":
        print(json.dumps(_plain(whole), indent=1, ensure_ascii=False, allow_nan=False))
        return True
    from veneer.models.files import write_json

    assert _current.file is not None
    try:
        write_json(_current.file, _plain(whole))
    except OSError as error:
        raise InputError("json", str(_current.file), "a file that can be written", str(error)) from error
    return False


def _plain(content: Any) -> Any:
    match content:
        case Mapping():
            return {str(key): _plain(value) for key, value in content.items()}
        case list() | tuple():
            return [_plain(value) for value in content]
        case float():
            return content if content - content == 0 else None
        case None | bool() | int() | str():
            return content
    return str(content)
