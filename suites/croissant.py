"""``croissant.json``: a dataset's folder in MLCommons' Croissant 1.0, with its responsible-AI fields.

What the dataset card says to people, this file says to programs that know no Veneer: which files there are
and with which checksums, which columns of which types, how the data came about and what it is not good for.
The names are those of the Croissant format (mlcommons.org, version 1.0) and of its vocabulary for
responsible AI (RAI 1.0). There is no date in it, so that the same command gives the same bytes.
"""

from pathlib import PurePath
from typing import Any

from veneer.suites.card import COLUMNS, SUFFIXES

FILE = "croissant.json"
_CONFORMS = ("http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0")
_TYPES = {"String": "sc:Text", "Boolean": "sc:Boolean", "Int32": "sc:Integer", "Int64": "sc:Integer"}
_ENCODINGS = {"parquet": "application/x-parquet", "jsonl": "application/jsonlines"}
_CITE = (
    "@software{veneer, title = {Veneer: what fine-tuning does to a capability that a small Transformer "
    "provably has}}"
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The format's own, word for word: readers compare it."""


def croissant(manifest: dict[str, Any]) -> dict[str, Any]:
    """What ``croissant.json`` holds.

    Args:
        manifest: what ``dataset.json`` holds, with the checksums of the data files.
    """
    plan = manifest["plan"]
    suffix = next(suffix for suffix in SUFFIXES if suffix in plan["formats"])
    names = [split["name"] for split in plan["splits"]]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(_CONFORMS),
        "name": manifest["name"],
        "description": f"{plan['task']['about']} Made by: {manifest['command']}",
        "license": plan["license"],
        "version": f"{manifest['format']}.0.0",
        "citeAs": _CITE,
        "keywords": ["synthetic", "mechanistic interpretability", "spurious correlation"],
        "creator": {"@type": "sc:Organization", "name": f"Veneer {manifest['made_with']['veneer']}"},
        **_responsible(manifest),
        "distribution": [
            *(_file_set(name, suffix) for name in names),
            *(_file(name, entry) for name, entry in manifest["files"].items() if name.startswith("data/")),
        ],
        "recordSet": [_record_set(name, manifest["columns"]) for name in names],
    }


def _file_set(split: str, suffix: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{split}-files",
        "name": f"{split}-files",
        "description": f"The files of the split {split}.",
        "encodingFormat": _ENCODINGS[suffix],
        "includes": f"data/{split}-*.{suffix}",
    }


def _file(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": PurePath(name).name,
        "contentUrl": name,
        "contentSize": f"{entry['bytes']} B",
        "encodingFormat": _ENCODINGS[PurePath(name).suffix[1:]],
        "sha256": entry["sha256"],
    }


def _record_set(split: str, columns: dict[str, str]) -> dict[str, Any]:
    fields = []
    for name, kind in columns.items():
        field: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"{split}/{name}",
            "name": name,
            "description": COLUMNS[name],
            "dataType": _TYPES.get(kind, "sc:Integer"),
            "source": {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": name}},
        }
        fields.append({**field, "repeated": True} if kind.startswith("List") else field)
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": f"The samples of the split {split}.",
        "key": {"@id": f"{split}/id"},
        "field": fields,
    }


def _responsible(manifest: dict[str, Any]) -> dict[str, Any]:
    """How the data came about, what is in it on purpose, and what it is not good for."""
    plan, made_with = manifest["plan"], manifest["made_with"]
    return {
        "rai:dataCollection": (
            "Nothing was collected. A program draws every text from a task's distribution with "
            f"counter-based random numbers (seed {plan['seed']}) and computes its label."
        ),
        "rai:dataCollectionType": ["Others"],
        "rai:dataCollectionMissingData": "No value is missing.",
        "rai:dataCollectionRawData": "There is none: the command that makes the data is in the description.",
        "rai:dataImputationProtocol": "Nothing is imputed.",
        "rai:dataPreprocessingProtocol": _made(plan),
        "rai:dataAnnotationProtocol": [
            "A label is what the task's definition says of the text. Nobody judged anything; veneer verify "
            "computes samples of the labels again, with a second implementation."
        ],
        "rai:dataAnnotationPlatform": ["None: labels are computed."],
        "rai:annotationsPerItem": "1, computed",
        "rai:annotatorDemographics": ["No annotators took part."],
        "rai:machineAnnotationTools": [f"{name} {version}" for name, version in made_with.items()],
        "rai:dataBiases": _biases(manifest),
        "rai:dataUseCases": [
            "To study what fine-tuning does to models: whether they learn a task or its shortcut, and what "
            "becomes of what they could do before."
        ],
        "rai:dataLimitations": [
            "Texts are random strings, or those of a small grammar. What models do on them need not be what "
            "they do on language, and a model that is good at them is good at nothing else."
        ],
        "rai:dataSocialImpact": "The texts say nothing about anybody. Methods studied on them may be used on "
        "models that do.",
        "rai:personalSensitiveInformation": ["None: no text is about, by or from a person."],
        "rai:dataReleaseMaintenancePlan": (
            "The same command with the same versions gives the same bytes; there is nothing to maintain."
        ),
    }


def _made(plan: dict[str, Any]) -> list[str]:
    told = ["A text that occurs twice, in one split or in two, is replaced by another."]
    if plan["held_out_by"]:
        values = ", ".join(map(str, plan["held_out"]))
        names = ", ".join(split["name"] for split in plan["splits"] if split["held_out"])
        told.append(f"Texts with {plan['held_out_by']} {values} are in {names} only.")
    return told


def _biases(manifest: dict[str, Any]) -> list[str]:
    """The correlation that is there on purpose, and how often a constant is right."""
    told, q = [], manifest["q"]
    for split in manifest["plan"]["splits"]:
        found = manifest["splits"][split["name"]]
        carried = f"{found['correlated'] / found['samples']:.2%} of the samples"
        constant = f"always giving the commonest label is right on {found['majority']:.2%}."
        shortcut = f"on purpose, in {carried} the answer for O_FT is that for O_PT + {q}; "
        told.append(f"{split['name']}: {'' if q is None else shortcut}{constant}")
    return told
