"""What a page says, read as a browser's parser would, and what the run's files say."""

import json
from html.parser import HTMLParser
from typing import Any

import polars as pl

from tests.report.fakes import STEPS
from veneer.experiments.store import Run


class Page(HTMLParser):
    """Tags with their attributes, tables by id as rows of text, and the text outside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text, self.embedded = "", ""
        self._table: list[list[str]] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._open.append(f"{tag}#{attributes.get('id')}")
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id") or "", [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and not self._open.pop().startswith(f"{tag}#"):
            pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script#data":
            self.embedded += data
        if inside.startswith(("script#", "style#")):
            return
        self.text += data
        if any(name.startswith(("td#", "th#")) for name in self._open):
            self._table[-1][-1] += data

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.embedded)


def last_values(run: Run, stage: str, texts: str, operand: str) -> dict[tuple[float, float], float]:
    """Mean over the seeds that did not diverge, by fine-tuning rate and C_Tr, read file by file."""
    found: dict[tuple[float, float], list[float]] = {}
    cells = {file.parent.name: json.loads(file.read_text()) for file in run.path.glob("cells/*/cell.json")}
    for name, cell in cells.items():
        first = cells[cell["start"]["cell"]] if "cell" in cell["start"] else cell
        counts = cell["status"] == "done" and first["start"]["start"] == "capability"
        if cell["stage"]["name"] == stage and counts:
            rows = pl.read_parquet(run.path / "cells" / name / "metrics.parquet").filter(
                (pl.col("measure") == "accuracy")
                & (pl.col("texts") == texts)
                & (pl.col("operand") == operand)
                & (pl.col("step") == STEPS[-1])
            )
            c_tr = first["stage"]["mixture"]["components"][0]["weight"]
            found.setdefault((first["stage"]["recipe"]["learning_rate"], c_tr), []).append(
                rows["value"].item()
            )
    return {key: sum(values) / len(values) for key, values in found.items()}
