"""From two programs of the user's to a capability and a task: the first is compiled, both answer texts.

Texts are all strings of the length where these are few, uniform strings where they are many, or the inputs
that the user gives. What both programs answered is kept in the cache, and by a run in its folder.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from veneer.compiled import cache
from veneer.compiled import file as rasp_file
from veneer.compiled.capability import CompiledCapability, Value, from_json, to_json
from veneer.compiled.choose import Reader
from veneer.compiled.exactness import NOISE_SEEDS, Trials, choose_noise
from veneer.compiled.file import VALID, load_program
from veneer.compiled.inputs import VALID as INPUTS
from veneer.compiled.inputs import drawn_inputs, split_target
from veneer.models.files import is_file, read_json, write_bytes, write_sealed
from veneer.tasks import random, user_code
from veneer.tasks.errors import InputError
from veneer.tasks.pair import PairTask

LEAST = 20  # texts that both programs must have answers for
TRIALS = 512  # texts on which noise is chosen
AGREES = "FILE.py:NAME, a function of both answers that says whether they agree"


@dataclass(frozen=True)
class Pair:
    """Two programs, and how texts for them are found.

    Attributes:
        program_pt: the program that is compiled, as FILE.py:FUNCTION.
        program_ft: the program that fine-tuning teaches.
        vocabulary: the tokens.
        length: tokens of every text.
        answer_position: where the answer is read, BOS counted; None for the last token.
        causal: whether selectors see the past only.
        inputs: texts of the user's, as FILE.py:NAME; None for strings of the vocabulary.
        agree: what carries the correlation, as FILE.py:NAME; None for a difference of the answers.
        q: that difference; None takes the commonest other than 0.
        exactness: Tracr's; None chooses it.
        texts: how many texts to ask.
    """

    program_pt: str
    program_ft: str
    vocabulary: tuple[Value, ...]
    length: int
    answer_position: int | None = None
    causal: bool = False
    inputs: str | None = None
    agree: str | None = None
    q: int | None = None
    exactness: int | None = None
    texts: int = 4096

    @property
    def position(self) -> int:
        """Where the answer is read."""
        return self.length if self.answer_position is None else self.answer_position


def make_pair(pair: Pair) -> tuple[CompiledCapability, PairTask]:
    """The first program as a capability, and the task of going from its answers to the second's.

    Raises:
        InputError: programs that cannot be compiled or run, that never differ, or whose answers the compiled
            model cannot give.
    """
    _check_number(pair)
    capability = rasp_file.compile(
        pair.program_pt,
        pair.vocabulary,
        pair.length,
        causal=pair.causal,
        answer_position=pair.position,
        exactness=pair.exactness,
        inputs=pair.inputs,
    )
    if capability.classes is None:
        problem = "its output is a number, and fine-tuning teaches classes"
        valid = "a program with a categorical output (rasp.categorical)"
        raise InputError("program", pair.program_pt, valid, problem)
    entry = cache.folder().parent / "pairs" / cache.key(_recipe(pair))
    try:
        task = load_task(entry)
    except InputError:
        task = _asked(pair)
        cache.keep(lambda: save_task(entry, task))
    for place, program in enumerate((pair.program_pt, pair.program_ft)):
        if len(found := task.results[:, place].unique()) == 1:
            problem = f"it answers {task.answers[int(found)]!r} on all {len(task.texts):,} texts"
            raise InputError(
                "program", program, "one with two answers or more, so that guessing is not enough", problem
            )
    unknown = [
        task.answers[i] for i in task.results.unique().tolist() if task.answers[i] not in capability.classes
    ]
    if unknown:
        problem = f"{task.programs[1]} answers {unknown[0]!r}, which {task.programs[0]} never does"
        known = ", ".join(map(repr, capability.classes[:12]))
        raise InputError("program", pair.program_ft, f"answers of the first program: {known}", problem)
    return _with_noise(capability, task), task


def _recipe(pair: Pair) -> dict[str, Any]:
    named = (("program_pt", VALID), ("program_ft", VALID), ("inputs", INPUTS), ("agree", AGREES))
    digests = {
        field: user_code.digest(
            split_target(getattr(pair, field), field, valid)[0], field, getattr(pair, field), valid
        )
        for field, valid in named
        if getattr(pair, field) is not None
    }
    plain = {**asdict(pair), "vocabulary": [repr(token) for token in pair.vocabulary]}
    names = {field: getattr(pair, field).rpartition(":")[2] for field in digests}
    return {"pair": 1, **plain, **{field: [names[field], digests[field]] for field in digests}}


def _asked(pair: Pair) -> PairTask:
    """Ask both programs for the answers to texts."""
    strings = _texts(pair)
    readers = [_reader(pair, target) for target in (pair.program_pt, pair.program_ft)]
    rows, answers = list[list[Value]](), list[tuple[Value, Value]]()
    for string in strings:
        found = [reader.answers(string) for reader in readers]
        if all(found):
            rows.append(string)
            answers.append((found[0][pair.position - 1], found[1][pair.position - 1]))  # pyright: ignore[reportOptionalSubscript]
    if len(rows) < LEAST:
        why = "; ".join(filter(None, (reader.failure for reader in readers)))
        why = why or "on the others one of them is None where it is read"
        problem = f"both have an answer on {len(rows):,} of {len(strings):,} texts: {why}"
        programs = [pair.program_pt, pair.program_ft]
        raise InputError("programs", programs, f"answers on {LEAST} texts or more", problem)
    known = _in_order({answer for both in answers for answer in both})
    number = {answer: place for place, answer in enumerate(known)}
    results = torch.tensor([[number[pt], number[ft]] for pt, ft in answers], dtype=torch.int32)
    difference = results[:, 1] - results[:, 0]
    q = pair.q
    if q is None:
        common = Counter(difference[difference != 0].tolist()).most_common(1)
        q = common[0][0] if common else 0
    agrees = difference == q if q else torch.zeros(len(rows), dtype=torch.bool)
    if pair.agree is not None:
        agrees, q = _agreeing(pair.agree, answers), 0
    token = {(type(value), value): place for place, value in enumerate(pair.vocabulary)}
    texts = torch.tensor([[token[type(value), value] for value in row] for row in rows], dtype=torch.int16)
    names = tuple(
        f"{Path(t.rpartition(':')[0]).name}:{t.rpartition(':')[2]}"
        for t in (pair.program_pt, pair.program_ft)
    )
    return PairTask((names[0], names[1]), pair.vocabulary, known, texts, results, agrees, q)


def _check_number(pair: Pair) -> None:
    """Refuse fewer texts than a task can be made of, and inputs that no model could be compiled for.

    Raises:
        InputError: there are too few, whatever the programs answer.
    """
    found = len(_texts(pair))
    if found < LEAST:
        kind = "inputs" if pair.inputs is not None else f"strings of {pair.length} tokens"
        valid = f"{LEAST} or more: a longer --length, more tokens, more --texts or more --inputs"
        raise InputError("texts", found, valid, f"there are no more than {found} {kind}")


def _texts(pair: Pair) -> list[list[Value]]:
    tokens, length = pair.vocabulary, pair.length
    if pair.inputs is not None:
        given = drawn_inputs(pair.inputs, tokens, length, pair.texts)
        if sizes := {len(one) for one in given} - {length}:
            valid = f"inputs of --length {length} tokens each (a program's model knows no other padding)"
            raise InputError("inputs", pair.inputs, valid, f"some have {sorted(sizes)[0]}")
        return given
    if len(tokens) ** length <= pair.texts:
        return [list(row) for row in itertools.product(tokens, repeat=length)]
    key = torch.tensor([random.stream_key("compiled/pairs", 0, "texts")])
    drawn = random.integers(key, len(tokens), pair.texts, length)[0].tolist()
    return [[tokens[i] for i in row] for row in dict.fromkeys(map(tuple, drawn))]


def _reader(pair: Pair, target: str) -> Reader:
    path, function = split_target(target, "program", VALID)
    guard = partial(user_code.running, path, "program", target, VALID)
    return Reader(load_program(path, function, target), target, guard, pair.causal, pair.position)


def _in_order(answers: set[Value]) -> tuple[Value, ...]:
    """Whole numbers in a row from the least to the greatest; others by size, then by how they are written."""
    if all(type(answer) is int for answer in answers):
        whole = [answer for answer in answers if isinstance(answer, int)]
        return tuple(range(min(whole), max(whole) + 1))

    def place(answer: Value) -> tuple[bool, float, str]:
        number = isinstance(answer, int | float)
        return not number, float(answer) if isinstance(answer, int | float) else 0.0, repr(answer)

    return tuple(sorted(answers, key=place))


def _agreeing(target: str, answers: Sequence[tuple[Value, Value]]) -> torch.Tensor:
    path, name = split_target(target, "agree", AGREES)
    function: Callable[[Value, Value], object] | None = getattr(
        user_code.load(path, "agree", target, AGREES), name, None
    )
    if not callable(function):
        raise InputError("agree", target, AGREES)
    with user_code.running(path, "agree", target, AGREES):
        return torch.tensor([bool(function(pt, ft)) for pt, ft in answers])


def _with_noise(capability: CompiledCapability, task: PairTask) -> CompiledCapability:
    """The capability with the largest noise that is measured to cost nothing on the task's texts."""
    assert capability.classes is not None and capability.calibration is not None
    assert capability.answer_position is not None
    classes = torch.tensor(classes_of(task, capability.classes))
    tokens = torch.tensor([capability.vocabulary.index(letter) for letter in task.letters])
    texts = tokens[task.texts[:TRIALS].long()]
    bos = torch.full((len(texts), 1), capability.vocabulary.index(capability.bos))
    right = classes[task.results[:TRIALS, 0].long()]
    trials = Trials(torch.cat([bos, texts], -1), right, capability.answer_position)
    clean = capability.model.select([0] * len(NOISE_SEEDS))
    std, after = choose_noise(clean, trials, capability.calibration.accuracy_before)
    measured = replace(capability.calibration, noise_std=std, accuracy_after=float(after.mean()))
    return replace(capability, calibration=replace(measured, seeds=len(NOISE_SEEDS)))


def classes_of(task: PairTask, classes: Sequence[Value]) -> tuple[int, ...]:
    """The model's class of each answer of the task; 0 for those that no text has."""
    return tuple(classes.index(answer) if answer in classes else 0 for answer in task.answers)


_PLAIN = ("q", "part")


def save_task(folder: Path, task: PairTask) -> None:
    """Write a task's table and what it means."""
    tables = {"texts": task.texts.contiguous(), "results": task.results.contiguous(), "agrees": task.agrees}
    write_bytes(folder / "texts.safetensors", save(tables))
    words = {
        name: [to_json(value) for value in getattr(task, name)] for name in ("letters", "answers", "programs")
    }
    write_sealed(folder / "texts.json", {**words, "q": task.q, "sha256": task._digest})


def load_task(folder: Path) -> PairTask:
    """Read what ``save_task`` wrote.

    Raises:
        InputError: a file is missing or damaged.
    """
    shape = {"letters": list, "answers": list, "programs": [str], "q": int, "sha256": str}
    described = read_json(folder / "texts.json", shape, "the texts of two programs")
    file, valid = folder / "texts.safetensors", "the texts of two programs"
    try:
        tables = load_file(file) if is_file(file) else {}
        task = PairTask(
            (described["programs"][0], described["programs"][1]),
            tuple(map(from_json, described["letters"])),
            tuple(map(from_json, described["answers"])),
            tables["texts"],
            tables["results"],
            tables["agrees"],
            described["q"],
        )
    except (SafetensorError, OSError, KeyError, IndexError) as error:
        raise InputError("file", str(file), valid, f"it is missing or damaged: {error}") from error
    if task._digest != described["sha256"]:
        raise InputError("file", str(file), valid, "its checksum is another")
    return task
