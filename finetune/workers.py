"""Worker processes: started ahead of the work, and ended with the process that started them.

A worker has to import what its driver imports, which takes seconds. On Linux a server imports it once,
beside the driver's own imports, and workers are copies of it. It is copied while it has one thread, before
anything was computed in it, so that no copy holds a lock of a thread that it lacks. This module imports
nothing heavy, so that a command can call it first.
"""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

IMPORTED = ["veneer.finetune.engines", "veneer.finetune.fleet", "veneer.pcfg.operand_task"]
"""What workers need that starts no thread: polars would, and takes them half a second."""

_server_runs = False


def start_server() -> None:
    """Begin to import what workers need in a process of its own; called before one's own heavy imports.

    Nothing happens where processes cannot be copied safely, or from another thread than the first.
    """
    global _server_runs
    alone = threading.current_thread() is threading.main_thread()
    if _server_runs or not sys.platform.startswith("linux") or not alone:
        return
    multiprocessing.set_forkserver_preload(IMPORTED)
    before = signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C ends the driver, with which the server ends
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
    _server_runs = True


def worker_context() -> BaseContext:
    """How to start workers: as copies of the server where one was started, or else from nothing."""
    return multiprocessing.get_context("forkserver" if _server_runs else "spawn")


def end_with_driver() -> None:
    """Called in a worker: from now on it ends as soon as the process that started it has ended."""
    driver = multiprocessing.parent_process()
    if driver is None:
        return

    def follow() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
