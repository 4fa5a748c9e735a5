"""Worker processes that end with the process that started them, however that ends."""

import multiprocessing
import os
import threading


def end_with_driver() -> None:
    """Called in a worker: from now on it ends as soon as the process that started it has ended."""
    driver = multiprocessing.parent_process()
    if driver is None:
        return

    def follow() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
