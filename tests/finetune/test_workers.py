"""Workers as copies of a server that imported ahead."""

import subprocess
import sys

import pytest

SCRIPT = """
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

from veneer.finetune import workers


def modules():
    import sys
    return "torch" in sys.modules, sys.modules["torch"].ones(3).sum().item()


if __name__ == "__main__":
    workers.start_server()
    with ProcessPoolExecutor(1, workers.worker_context()) as pool:
        print(*pool.submit(modules).result())
    server = forkserver._forkserver._forkserver_pid
    print(len(os.listdir(f"/proc/{server}/task")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are copies on Linux only")
def test_a_server_is_copied_with_what_it_imported_and_has_one_thread(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    script = tmp_path_factory.mktemp("script") / "copies.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["True", "3.0", "1"]
