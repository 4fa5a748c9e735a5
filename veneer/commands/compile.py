"""``veneer compile``: a RASP program as a PyTorch Transformer."""

import shlex
from pathlib import Path

from veneer.commands.options import CompileOptions, parse
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer compile``."""
    if words and words[0] in ("-h", "--help"):
        parse(CompileOptions, ["--help"], "veneer compile FILE.py:FUNCTION")
    program, rest = (words[0], words[1:]) if words else ("", [])
    if not program or program.startswith("-"):
        raise InputError("program", program, "FILE.py:FUNCTION as the first argument")
    options = parse(CompileOptions, rest, "veneer compile FILE.py:FUNCTION")
    compile_program(program, options)


def compile_program(program: str, options: CompileOptions) -> None:
    """``veneer compile``: compile, save, and say what came out.

    Raises:
        InputError: what cannot be compiled, or a folder that is there already.
    """
    from veneer.commands.progress import following, quoted
    from veneer.commands.screen import console
    from veneer.compiled import file as rasp_file
    from veneer.compiled.summary import summary
    from veneer.compiled.tokens import read_vocabulary
    from veneer.models.files import check_place

    check_place(options.out)
    if options.out.exists():
        raise InputError("out", str(options.out), "a folder that does not exist yet")
    vocabulary = read_vocabulary(options.vocabulary, options.max_length)
    capability = rasp_file.compile(
        program,
        vocabulary,
        options.max_length,
        causal=options.causal,
        bos=options.bos,
        pad=options.pad,
        exactness=options.exactness,
        answer_position=options.answer_position,
        inputs=options.inputs,
        allow_inexact=options.allow_inexact,
    )
    capability.save(options.out)
    console.print(summary(capability))
    console.print(f"wrote {options.out}/model.safetensors and model.json")
    tokens = shlex.join(map(str, options.vocabulary))
    following(
        f"veneer generate {shlex.quote(program)} --vocabulary {tokens} --max-length {options.max_length} "
        f"--samples 1000 --out data/{quoted(Path(options.out.name))}"
    )
