"""What all tests share: shapes checked while they run, one thread, and the same examples every time."""

import sys

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

ROOMS = ["tasks", "models", "compiled", "finetune", "pcfg", "analysis"]

too_early = sorted(name for name in sys.modules if name.partition(".")[0] in ROOMS)
if too_early:
    raise RuntimeError(f"imported before its shapes could be checked: {', '.join(too_early)}")
install_import_hook(ROOMS, "beartype.beartype")

# Derandomized: a test fails for a change of the code, not of the day. Deadlines would measure the machine.
settings.register_profile("veneer", deadline=None, derandomize=True)
settings.load_profile("veneer")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two tests at once on two cores must not fight over them; torch is not imported for this."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``gpu`` where there is no CUDA device."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
