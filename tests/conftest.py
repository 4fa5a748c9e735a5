"""What all tests share: shapes checked while they run, one thread, and the same examples every time."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

CHECKED_ROOMS = ("tasks", "models", "compiled", "finetune", "pcfg", "language", "analysis")
CHECKED = [f"veneer.{room}" for room in CHECKED_ROOMS]

too_early = sorted(name for name in sys.modules if name.startswith(tuple(CHECKED)))
if too_early:
    raise RuntimeError(f"imported before its shapes could be checked: {', '.join(too_early)}")
install_import_hook(CHECKED, "beartype.beartype")

# Derandomized: a test fails for a change of the code, not of the day. Deadlines would measure the machine.
settings.register_profile("veneer", deadline=None, derandomize=True)
settings.load_profile("veneer")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two tests at once on two cores must not fight over them; torch is not imported for this."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests may take half an hour each on a busy machine; the others keep the usual limit."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``gpu`` where there is no CUDA device."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """VENEER_CACHE for the session, shared by the processes of a parallel test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "veneer-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VENEER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def prepared(cache: Path) -> Any:
    """The cells of the tiny experiment; its capability is compiled once for all tests."""
    from tests.tiny import EXPERIMENT
    from veneer.experiments.cells import prepare

    return prepare(EXPERIMENT)
