"""Datasets by name: from a description to its texts, and to its answers by a second, plain implementation.

A description is JSON: it stands in ``dataset.json``, goes to other processes, and is all that is needed
to make or check a dataset. Only what is the user's own machine's affair (paths) is left out of it, under
``local``.
"""

import string
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from veneer.suites import sources as written
from veneer.suites.sources import Condition, Source
from veneer.suites.verify import Relabel
from veneer.tasks.encoding import Value
from veneer.tasks.errors import InputError
from veneer.tasks.user_code import digest

if TYPE_CHECKING:
    from veneer.pcfg.families import SampleLayout
    from veneer.suites.capability_sources import RaspSource

Task = dict[str, Any]
Family = Literal["C", "CC", "I", "IC", "T"]
PCFG: dict[str, Family] = {"pcfg-c": "C", "pcfg-cc": "CC", "pcfg-i": "I", "pcfg-ic": "IC", "pcfg-t": "T"}
EDITED = ("counter", "max-identifier", "pcfg-c", "pcfg-i")
"""Tasks whose texts are built to carry the correlation or not."""
TASKS = ("counter", "max-identifier", *PCFG)
ANSWERED = {
    "C": "occurrences of the operand in the last {number} tokens",
    "CC": "occurrences of the operand twice in a row in the last {number} tokens (aaa holds two)",
    "I": "distance from the end at which the operand occurs for the {number}th time, counted from the "
    "end (the last token has distance 1; 0: it does not occur so often)",
    "IC": "the same distance for the operand twice in a row (aaa holds two; that of the later token)",
    "T": "the token {number} places from the end",
}


def counter(
    letters: str = string.ascii_lowercase[:9],
    length: int = 45,
    min_length: int | None = None,
    q: int = 1,
    pairs: Sequence[tuple[str, str]] = (("a", "b"),),
) -> Task:
    """Description of a Counter."""
    about = f"Counter: how often a letter occurs in a string of {letters[0]} to {letters[-1]}."
    fields = {"letters": letters, "length": length, "min_length": min_length, "q": q}
    return {"task": "counter", "about": about, **fields, "pairs": _listed(pairs)}


def max_identifier(
    letters: str = string.ascii_lowercase,
    length: int = 10,
    q: int = 2,
    pairs: Sequence[tuple[str, str]] = (("5", "7"),),
) -> Task:
    """Description of a Max-identifier; operands are ranks.

    Raises:
        InputError: a rank that is no number.
    """
    for rank in (rank for pair in pairs for rank in pair):
        if not rank.isdecimal():
            raise InputError("rank", rank, f"1 to length = {length}")
    about = "Max-identifier: the letter of a rank, in the order a, b, c, ...; no letter occurs twice."
    fields = {"letters": letters, "length": length, "q": q}
    return {"task": "max-identifier", "about": about, **fields, "pairs": _listed(pairs)}


def pcfg(
    family: Family,
    grammar_name: str = "jain2024",
    window: int = 250,
    number: int | None = None,
    count_last: int = 40,
    q: int = 1,
    pairs: Sequence[tuple[str, str]] = (("a", "b"),),
    max_length: int | None = None,
) -> Task:
    """Description of a question about a grammar's strings.

    Args:
        family: one of the paper's task families.
        grammar_name: a name from ``veneer.pcfg.grammars``, or a file in NLTK's notation.
        window: tokens of text.
        number: O' of I, IC (6 if None) and T (40 if None).
        count_last: O' of C and CC; for I, how many of the last tokens are edited.
        q: the spurious correlation's constant.
        pairs: pairs of operands.
        max_length: longest string of the grammar; recursive grammars need it.

    Raises:
        InputError: a grammar or a number that cannot be used.
    """
    from veneer.pcfg.families import SampleLayout
    from veneer.pcfg.grammars import read_grammar

    found = read_grammar(grammar_name, max_length)
    occurrence = 6 if number is None else number
    back = count_last if number is None or family != "T" else number
    layout = {"window": window, "count_last": count_last, "occurrence": occurrence, "token_back": back}
    asked = SampleLayout(found, window, count_last, occurrence, back).number(family)
    about = f"Strings of the grammar {found.name}, windows of {window} tokens. Asked: "
    return {
        "task": f"pcfg-{family.lower()}",
        "about": f"{about}{ANSWERED[family].format(number=asked)}.",
        "grammar": found.name,
        "rules": found.text,
        **({} if max_length is None else {"max_length": max_length}),
        **layout,
        "number": asked,
        "q": None if family == "T" else q,
        "pairs": [["NULL", "NULL"]] if family == "T" else _listed(pairs),
    }


def rasp(
    program: str,
    vocabulary: Sequence[Value],
    max_length: int,
    min_length: int = 1,
    answer: str = "last",
    program_ft: str | None = None,
    q: int = 1,
    causal: bool = False,
    bos: str = "BOS",
    pad: str = "#",
) -> Task:
    """Description of one or two RASP programs of the user's.

    Args:
        program: ``FILE.py:FUNCTION``, the program for O_PT.
        vocabulary: the tokens of the texts.
        max_length: longest text.
        min_length: shortest text; lengths are uniform between the two.
        answer: where the answer is read: a position, BOS counted, "last" or "everywhere".
        program_ft: the program for O_FT, if there is a second one.
        q: the spurious correlation's constant, if there is a second program.
        causal: whether selectors see the past only.
        bos: name of the token in front of every text.
        pad: name of the token behind short ones.

    Raises:
        InputError: a program that cannot be loaded, or lengths, tokens or positions that cannot be used.
    """
    from veneer.compiled.file import split_target
    from veneer.compiled.tokens import in_texts

    tokens = list(vocabulary)
    if not tokens or any(not str(token) for token in tokens):
        raise InputError("vocabulary", tokens, "one or more tokens, none of them empty")
    if {bos, pad} & {*in_texts(tokens)} or bos == pad:
        raise InputError("bos, pad", [bos, pad], "two names that are not in the vocabulary")
    if not 1 <= min_length <= max_length:
        raise InputError("min_length", min_length, f"1 to max_length = {max_length}")
    if answer not in ("last", "everywhere") and not (answer.isdecimal() and 1 <= int(answer) <= min_length):
        valid = f"last, everywhere, or 1 to min_length = {min_length} (BOS counted)"
        raise InputError("answer_position", answer, valid)
    targets = [program] if program_ft is None else [program, program_ft]
    files = [split_target(target) for target in targets]
    names = [function for _, function in files]
    if len(set(names)) != len(names):
        names = [f"{path.name}:{function}" for path, function in files]
    if len(set(names)) != len(names):
        raise InputError("program_ft", program_ft, "another program than the first")
    about = f"RASP program {' and '.join(names)}, answers by RASP's interpreter, read {_read_at(answer)}."
    return {
        "task": "rasp",
        "about": about,
        "programs": [f"{path.name}:{function}" for path, function in files],
        "sha256": [digest(path, "program", target) for (path, _), target in zip(files, targets, strict=True)],
        "vocabulary": tokens,
        "min_length": min_length,
        "max_length": max_length,
        "answer": int(answer) if answer.isdecimal() else answer,
        "causal": causal,
        "names": [bos, pad],
        "q": None if program_ft is None else q,
        "pairs": [[names[0], names[-1]]],
        "local": targets,
    }


def _read_at(answer: str) -> str:
    return (
        f"at position {answer} (BOS counted)"
        if answer.isdecimal()
        else f"at the {answer} token".replace("the everywhere token", "every token")
    )


def _listed(pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [list(pair) for pair in pairs]


def make(task: Task, condition: Condition) -> Sequence[Source]:
    """The sources of any task here, one for each pair of operands (see ``veneer.suites.sources.Make``).

    Raises:
        InputError: operands or a q that cannot be used.
    """
    if task["task"] == "rasp":
        return [_rasp_source(task, condition)]
    if task["task"] in PCFG:
        from veneer.suites.capability_sources import PcfgSource

        family = PCFG[task["task"]]
        layout = _layout(task)
        return [PcfgSource(layout, family, (pt, ft), task["q"]) for pt, ft in task["pairs"]]
    return written.make(task, condition)


def _layout(task: Task) -> "SampleLayout":
    from veneer.pcfg.families import SampleLayout
    from veneer.pcfg.grammar import Grammar

    fields = {name: task[name] for name in ("window", "count_last", "occurrence", "token_back")}
    return SampleLayout(Grammar.from_text(task["rules"], task["grammar"], task.get("max_length")), **fields)


def _rasp_source(task: Task, condition: Condition) -> "RaspSource":
    from veneer.suites.capability_sources import RaspSource

    programs = _programs(task["local"])
    return RaspSource(
        programs=(programs[0], programs[-1]),
        operands=(task["pairs"][0][0], task["pairs"][0][1]),
        tokens=tuple(task["vocabulary"]),
        sizes=(task["min_length"], task["max_length"]),
        answer=task["answer"],
        causal=task["causal"],
        q=task["q"],
        names=(task["names"][0], task["names"][1]),
        condition=condition,
    )


def _programs(targets: Sequence[str]) -> list[Any]:
    from veneer.compiled.file import load_program, split_target

    return [load_program(*split_target(target), target) for target in targets]


def relabel(task: Task, programs: Sequence[str] = ()) -> Relabel | None:
    """Right answers by plain Python, written a second time; None for programs that are not given.

    Args:
        task: a description.
        programs: ``FILE.py:FUNCTION`` of a RASP dataset's programs, as they were when it was made.

    Raises:
        InputError: programs of another number or with other bytes than the dataset's.
    """
    kind = task["task"]
    if kind == "rasp":
        return _relabel_rasp(task, programs) if programs else None
    if programs:
        raise InputError("program", programs[0], "nothing for a dataset that was not made from programs")
    if kind == "counter":
        return lambda text, operand: text.count(operand)
    if kind == "max-identifier":
        return lambda text, operand: sorted(text, key=task["letters"].index)[int(operand) - 1]
    answer, number = _PLAIN[PCFG[kind]], task["number"]
    return lambda text, operand: answer(text, operand, number)


def _relabel_rasp(task: Task, programs: Sequence[str]) -> Relabel:
    from veneer.compiled.file import split_target
    from veneer.compiled.tokens import in_texts
    from veneer.suites.capability_sources import answer_of

    hashes = [digest(split_target(target)[0], "program", target) for target in programs]
    if hashes != task["sha256"]:
        valid = f"{' and '.join(task['programs'])} as when the dataset was made"
        raise InputError("program", list(programs), valid, "their bytes are others, or it is not all of them")
    loaded = dict(zip(dict.fromkeys(task["pairs"][0]), _programs(programs), strict=True))
    token = dict(zip(in_texts(task["vocabulary"]), task["vocabulary"], strict=True))

    def answer(text: list[str], operand: str) -> Value:
        return answer_of(loaded[operand], [token[word] for word in text], task["answer"], task["causal"])

    return answer


def _index_from_end(places: list[int], length: int, number: int) -> int:
    return length - places[-number] if len(places) >= number else 0


def _pairs(text: list[str], operand: str) -> list[int]:
    """Places of the later tokens of pairs."""
    return [i for i in range(1, len(text)) if text[i] == operand and text[i - 1] == operand]


_PLAIN: dict[Family, Callable[[list[str], str, int], Value]] = {
    "C": lambda text, operand, number: text[-number:].count(operand),
    "CC": lambda text, operand, number: len(_pairs(text[-number:], operand)),
    "I": lambda text, operand, number: _index_from_end(
        [i for i, x in enumerate(text) if x == operand], len(text), number
    ),
    "IC": lambda text, operand, number: _index_from_end(_pairs(text, operand), len(text), number),
    "T": lambda text, operand, number: text[-number],
}


def shard_rows(task: Task) -> int:
    """Samples in a file: so many that some 50 MB are enough to make it."""
    length = task.get("window") or task.get("max_length") or task["length"]
    return 1 << 16 if length <= 64 else 1 << 13 if length <= 512 else 1 << 11
