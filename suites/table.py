"""A shard as a table, and the table as files.

========================  =========================================================================
``id``                    number of the sample; runs through all splits
``text``                  the text; letters are joined, longer tokens have a space between them
``tokens``                ids of all that a model reads; all samples have the same number of them
``operand``               the operand asked: the sample's question
``label``                 the answer to it
``operand_pt``, ``_ft``   the two operands, O_PT and O_FT
``result_pt``, ``_ft``    the answers for them
``correlated``            whether result_ft - result_pt is q, the spurious correlation
``answer_position``       index in ``tokens`` at which the answer is read (none: at every letter)
``label_id``              index of the label among the answers (a program's: among its labels, numbers
                          by size, then words), where labels are words
========================  =========================================================================
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Integer

from veneer.models.files import is_file, replacing
from veneer.suites.plan import FORMAT, FileFormat
from veneer.suites.rows import Rows
from veneer.suites.sources import Frame, Source
from veneer.tasks.encoding import Value
from veneer.tasks.errors import InputError

TYPES: dict[str, pl.DataType] = {
    "Int64": pl.Int64(),
    "Int32": pl.Int32(),
    "String": pl.String(),
    "Boolean": pl.Boolean(),
    "List(UInt8)": pl.List(pl.UInt8),
    "List(UInt16)": pl.List(pl.UInt16),
}
"""The columns' types by the names that ``dataset.json`` has for them."""

_ZSTD_LEVEL = 1
_NEWLINE = 10


def table(rows: Rows, sources: Sequence[Source], first_id: int) -> pl.DataFrame:
    """A shard's rows in the columns that users see."""
    frame = sources[0].frame
    operands = np.array([source.operands for source in sources])
    answers = answer_values(sources)
    label = np.where(rows.asked == 1, rows.results[:, 1], rows.results[:, 0])
    differences = sources[0].differences(rows.results)
    q = sources[0].q
    columns = {
        "id": pl.Series(np.arange(first_id, first_id + len(rows.kind), dtype=np.int64)),
        "text": texts(rows.letters, rows.sizes, frame.letters),
        "tokens": token_ids(rows, sources),
        "operand": _names(operands, rows.source * 2 + rows.asked),
        "label": answers.gather(label),
        "operand_pt": _names(operands, rows.source * 2),
        "operand_ft": _names(operands, rows.source * 2 + 1),
        "result_pt": answers.gather(rows.results[:, 0]),
        "result_ft": answers.gather(rows.results[:, 1]),
        "correlated": pl.Series(np.zeros(len(label), dtype=bool) if q is None else differences == q),
        "answer_position": _positions(rows, frame),
    }
    if answers.dtype == pl.String and sources[0].numbered:
        columns["label_id"] = pl.Series(label.astype(np.int32))
    return pl.DataFrame(columns)


def answer_values(sources: Sequence[Source]) -> pl.Series:
    """Answer by index: whole numbers if all answers are, words otherwise."""
    values = sources[0].answers
    if sources[0].numbered and all(type(value) is int for value in values):
        return pl.Series(values, dtype=pl.Int32)
    return pl.Series([word(value) for value in values], dtype=pl.String)


def word(value: Value) -> str:
    """An answer or token as text."""
    return value if isinstance(value, str) else str(value)


def _names(operands: np.ndarray, index: Integer[np.ndarray, "row"]) -> pl.Series:
    names = pl.Series(operands.ravel().tolist(), dtype=pl.String)
    return names.gather(index)


def texts(
    letters: Integer[np.ndarray, "row position"], sizes: Integer[np.ndarray, "row"], alphabet: Sequence[Value]
) -> pl.Series:
    """The texts as one string each."""
    names = [word(value) for value in alphabet]
    if not all(len(name) == 1 and name.isascii() and name.isalnum() for name in names):
        glue = "" if all(len(name) == 1 and not name.isspace() for name in names) else " "
        rows = zip(letters.tolist(), sizes.tolist(), strict=True)
        return pl.Series([glue.join(names[i] for i in row[:size]) for row, size in rows], dtype=pl.String)
    byte = np.array([ord(name) for name in names] + [0], dtype=np.uint8)
    lines = np.full((len(letters), letters.shape[1] + 1), _NEWLINE, dtype=np.uint8)
    lines[:, :-1] = byte.take(letters, mode="clip")
    if (sizes < letters.shape[1]).any():
        lines = lines[lines != 0]
    read = pl.read_csv(lines.tobytes(), has_header=False, schema={"text": pl.String}, quote_char=None)
    return read["text"]


def token_ids(rows: Rows, sources: Sequence[Source]) -> pl.Series:
    """What a model reads, as lists of equal length."""
    frame = sources[0].frame
    before, behind, size = len(frame.before[0]), len(frame.behind), rows.letters.shape[1]
    dtype = np.uint8 if len(frame.vocabulary) <= 256 else np.uint16
    tokens = np.empty((len(rows.letters), before + size + behind), dtype=dtype)
    questions = np.array([source.frame.before for source in sources], dtype=dtype)
    tokens[:, :before] = questions[rows.source, rows.asked]
    tokens[:, before : before + size] = np.array(frame.ids, dtype=dtype).take(rows.letters, mode="clip")
    tokens[:, before + size :] = np.array(frame.behind, dtype=dtype)
    return pl.Series(tokens).cast(pl.List(pl.UInt8 if dtype == np.uint8 else pl.UInt16))


def _positions(rows: Rows, frame: Frame) -> pl.Series:
    if frame.answer == "everywhere":
        return pl.Series([None] * len(rows.sizes), dtype=pl.Int32)
    if frame.answer == "last":
        return pl.Series((rows.sizes + len(frame.before[0]) - 1).astype(np.int32))
    return pl.Series(np.full(len(rows.sizes), frame.answer, dtype=np.int32))


def write(frame: pl.DataFrame, path: Path, kind: FileFormat) -> None:
    """Write one file under a temporary name, then rename."""
    writers: dict[FileFormat, Callable[[Path], None]] = {
        "parquet": lambda to: frame.write_parquet(
            to,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            row_group_size=max(1, len(frame)),
            statistics=False,
            metadata={"veneer_format": str(FORMAT)},
        ),
        "jsonl": frame.write_ndjson,
    }
    with replacing(path) as temporary:
        writers[kind](temporary)


def read(path: Path) -> pl.DataFrame:
    """Read a file that ``write`` made; its name is no pattern.

    Raises:
        InputError: it is no ordinary file.
    """
    if not is_file(path):
        raise InputError("file", str(path), "a file of the dataset", "it is not there, or no ordinary file")
    if path.suffix == ".parquet":
        return pl.read_parquet(path, glob=False)
    with path.open("rb") as file:
        return pl.read_ndjson(file)
