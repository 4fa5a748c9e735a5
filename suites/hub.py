"""A dataset, or a suite of them, as the folder of a dataset repository on a hub.

``datasets.load_dataset(FOLDER)`` opens it from the disk as it will from the hub; of a suite,
``load_dataset(FOLDER, NAME)``. Nothing is sent anywhere: a hub's own client does that.
"""

import shutil
from pathlib import Path
from typing import Any

from veneer.models.files import checksum, laid_out, read_text, write_text
from veneer.suites.card import suite_front_matter
from veneer.suites.named import members
from veneer.suites.verify import read_manifest
from veneer.tasks.errors import InputError


def is_dataset(folder: Path) -> bool:
    """Whether ``veneer generate`` made a folder: one dataset or a suite."""
    return (folder / "dataset.json").is_file() or (folder / "suite.json").is_file()


def lay_out_dataset(folder: Path, out: Path) -> list[str]:
    """Copy a dataset or a suite, with a card that a hub reads.

    Args:
        folder: made by ``veneer generate``.
        out: the new folder.

    Returns:
        The names of the datasets.

    Raises:
        InputError: a folder in use, or a file that is missing or damaged; nothing is left behind then.
    """
    suite = (folder / "suite.json").is_file()
    datasets = members(folder)
    manifests = {dataset.name if suite else "": read_manifest(dataset) for dataset in datasets}
    with laid_out(out) as partial:
        for dataset, (name, manifest) in zip(datasets, manifests.items(), strict=True):
            _copied(dataset, manifest, partial / name)
        if suite:
            told = read_text(folder / "README.md").replace('load_dataset("DIR/', 'load_dataset("DIR", "')
            write_text(partial / "README.md", f"{suite_front_matter(manifests)}\n\n{told}")
            shutil.copyfile(folder / "suite.json", partial / "suite.json")
    return [manifest["name"] for manifest in manifests.values()]


def _copied(dataset: Path, manifest: dict[str, Any], out: Path) -> None:
    """The files that a dataset says it has, each held against its checksum."""
    for name, entry in manifest["files"].items():
        source, target = dataset / name, out / name
        if not source.is_file() or checksum(source) != entry["sha256"]:
            valid = f"the file that {dataset / 'dataset.json'} describes"
            raise InputError("file", str(source), valid, "it is missing or damaged")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    shutil.copyfile(dataset / "dataset.json", out / "dataset.json")
