"""Compiled capabilities are made once for all tests of this room, in a cache of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.veneer.tiny import EXPERIMENT
from veneer.cells import Prepared, prepare


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """VENEER_CACHE for the session, shared by the processes of a parallel test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "veneer-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VENEER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def prepared(cache: Path) -> Prepared:
    """The cells of the tiny experiment."""
    return prepare(EXPERIMENT)
