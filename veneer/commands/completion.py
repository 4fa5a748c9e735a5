"""``veneer completion SHELL``: a script that completes commands, names and options in a shell.

It is written once, from the options as they are, and asks nothing of Python when a key is pressed.
"""

from dataclasses import fields
from typing import Any

from veneer.commands import options
from veneer.commands.options import known
from veneer.commands.run import TEXTS
from veneer.experiments.cddm.settings import Decisions
from veneer.experiments.layers.settings import Layers
from veneer.experiments.named import PRESETS
from veneer.experiments.stories.settings import Stories
from veneer.tasks.errors import InputError

SHELLS = ("bash", "zsh", "fish")
OF: dict[str, str] = {
    "run": "RunOptions",
    "sweep": "SweepOptions",
    "analyse": "AnalyseOptions",
    "report": "ReportOptions",
    "figures": "FigureOptions",
    "pretrain": "PretrainOptions",
    "compile": "CompileOptions",
    "verify": "VerifyOptions",
    "evaluate": "EvaluateOptions",
    "push": "PushOptions",
    "claims": "ClaimsOptions",
}
"""The commands whose options are dataclasses, with these."""
SETTINGS: dict[str, type[Any]] = {"stories": Stories, "layers": Layers, "cddm": Decisions}
"""The experiments on text models, with their settings."""
COMMON = ("--help", "--quiet", "--log-level", "--json")


def command(words: list[str]) -> None:
    """``veneer completion``.

    Raises:
        InputError: a shell that is not known.
    """
    if words[:1] in (["-h"], ["--help"]):
        print(f"usage: veneer completion {'|'.join(SHELLS)}    (docs/terminal.md says where it belongs)")
        return
    if len(words) != 1:
        raise InputError("shell", " ".join(words) or None, ", ".join(SHELLS))
    shell = known("shell", words[0], SHELLS)
    print(_fish() if shell == "fish" else _bash(shell == "zsh"), end="")


def words_of(name: str) -> list[str]:
    """What may stand after a command."""
    flags = {part.name for part in fields(getattr(options, OF[name]))} if name in OF else set()
    if name == "relearn":
        from veneer.commands.relearn import RelearnOptions

        flags = {part.name for part in fields(RelearnOptions)} - {"before", "after"}
    names: list[str] = []
    if name in ("run", "sweep"):
        names = list(PRESETS)
        flags |= {part.name for presets in PRESETS.values() for part in fields(presets["quick"])}
    if name == "run":
        names += list(TEXTS)
    return [*names, *(f"--{flag.replace('_', '-')}" for flag in sorted(flags)), *COMMON]


def words_of_text(kind: type[Any]) -> list[str]:
    """What may stand after ``veneer run`` and the name of an experiment on text models."""
    flags = {part.name for part in (*fields(kind), *fields(options.TextRunOptions))}
    return [*(f"--{flag.replace('_', '-')}" for flag in sorted(flags)), *COMMON]


def _commands() -> tuple[str, ...]:
    from veneer.commands.main import COMMANDS

    return COMMANDS


def _bash(zsh: bool) -> str:
    texts = {f'"run {name}"': words_of_text(kind) for name, kind in SETTINGS.items()}
    cases = texts | {f'"{name} "*': words_of(name) for name in _commands()}
    lines = "\n".join(f'    {case}) words="{" ".join(words)}" ;;' for case, words in cases.items())
    start = "autoload -U +X bashcompinit && bashcompinit\n" if zsh else ""
    return f"""{start}_veneer() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words
  case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{lines}
  esac
  [ "$COMP_CWORD" -eq 1 ] && words="{" ".join(_commands())} --help --version"
  COMPREPLY=($(compgen -W "$words" -- "$word") $([ "${{word#-}}" = "$word" ] && compgen -f -- "$word"))
}}
complete -o filenames -F _veneer veneer
"""


def _fish() -> str:
    lines = [f'complete -c veneer -n __fish_use_subcommand -f -a "{" ".join(_commands())}"']
    for name in _commands():
        seen = f'-n "__fish_seen_subcommand_from {name}"'
        for word in words_of(name):
            shown = f"-l {word.removeprefix('--')}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c veneer {seen} {shown}")
    for name, kind in SETTINGS.items():
        seen = f'-n "__fish_seen_subcommand_from {name}"'
        lines += [f"complete -c veneer {seen} -l {word.removeprefix('--')}" for word in words_of_text(kind)]
    return "\n".join(lines) + "\n"
