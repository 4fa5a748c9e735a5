"""Run the example notebooks again and store what they show: ``python -m examples.execute [NAME ...]``.

What a machine would tell about itself (execution times, warnings on stderr) is not stored. Needs the extra
``notebooks``.
"""

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
NAMES = ("written", "learned")


def executed(name: str) -> Any:
    """A notebook with fresh outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(FOLDER.parent)}}
    NotebookClient(notebook, timeout=600, resources=resources, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> None:
    """Execute and store the notebooks named, or all."""
    import nbformat

    for name in sys.argv[1:] or NAMES:
        nbformat.write(executed(name), FOLDER / f"{name}.ipynb")
        print(f"wrote {name}.ipynb")


if __name__ == "__main__":
    main()
