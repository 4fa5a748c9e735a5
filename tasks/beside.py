"""A user's own file finds what lies beside it, as it does when Python runs it.

Programs, methods and the like are brought as files. One that says ``from models import mine`` means the
``models`` of its own folder, wherever the command is given.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def imports_beside(path: Path) -> Iterator[None]:
    """While it lasts, the folder of a file is the first place that modules are looked for.

    Args:
        path: the file.
    """
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
