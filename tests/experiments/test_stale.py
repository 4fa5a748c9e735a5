"""Nothing old passes for new: a key holds what a result depends on; what is not planned is left aside."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from tests.report import fakes
from veneer.experiments.growth import differences
from veneer.experiments.named import PcfgPretraining, ProgramExperiment
from veneer.experiments.pretrain import PretrainingRun
from veneer.experiments.status import verify
from veneer.experiments.store import Run
from veneer.finetune.checkpoint import load_state, save_state
from veneer.finetune.method import recorded
from veneer.tasks.errors import InputError


def test_cells_that_are_no_longer_planned_are_left_aside(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", fakes.EXPERIMENT)
    cells = fakes.cells_of(fakes.EXPERIMENT)
    fakes.write_surroundings(run, cells)
    for cell in cells:
        fakes.store(run, cell)
    before = run.metrics()
    kept = [cell for cell in cells if cell.seed == 0]
    run.plan(kept, 4)
    assert run.finished() == sorted(cell.id for cell in kept)
    assert run.stored() == sorted(cell.id for cell in cells)
    assert set(run.metrics()["cell"]) == {cell.id for cell in kept}
    run.plan(cells, 4)  # and come back with their plan
    assert len(run.metrics()) == len(before)


def test_a_run_grows_by_what_is_new_and_keeps_its_fleets(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", fakes.EXPERIMENT)
    cells = fakes.cells_of(fakes.EXPERIMENT)
    first = run.plan([cell for cell in cells if cell.seed == 0], 3)
    grown = run.plan(cells, 3)
    assert [fleet.id for fleet in grown[: len(first)]] == [fleet.id for fleet in first]
    assert {cell.id for fleet in grown for cell in fleet.cells} == {cell.id for cell in cells}


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        ({"seeds": 3}, True),
        ({"learning_rates": (0.1, 0.001, 0.01)}, True),
        ({"constructed": True}, True),
        ({"third_operand": True, "reft_above": True}, True),
        ({"reft_rates": (0.001, 0.01)}, True),
        ({"seeds": 1}, False),
        ({"c_tr": (0.0,)}, False),
        ({"q": 2}, False),
        ({"iterations": 21}, False),
    ],
)
def test_what_adds_cells_goes_on_and_what_changes_them_does_not(
    change: dict[str, object], grows: bool
) -> None:
    before = replace(fakes.EXPERIMENT, controls=False, third_operand=False)
    found = {"fields": {**vars(before)}, "axes": {}}
    found["fields"] = {k: list(v) if isinstance(v, tuple) else v for k, v in found["fields"].items()}
    assert (differences(replace(before, **change), {}, found) == []) is grows  # pyright: ignore[reportArgumentType]


def test_one_more_token_is_another_pair_of_programs() -> None:
    before = ProgramExperiment(program_pt="m.py:a", program_ft="m.py:b", vocabulary=("a", "b"))
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(before).items()}
    after = replace(before, vocabulary=("a", "b", "c"))
    assert differences(after, {}, {"fields": fields}) == ["vocabulary: ['a', 'b'] -> ['a', 'b', 'c']"]


def test_a_flipped_bit_in_a_training_checkpoint_is_seen(tmp_path: Path) -> None:
    import torch

    file = tmp_path / "state.safetensors"
    save_state(file, {"step": torch.tensor(3), "weights": torch.randn(40)})
    assert int(load_state(file)["step"]) == 3
    content = file.read_bytes()
    file.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    with pytest.raises(InputError, match="checksum"):
        load_state(file)


GRAMMAR = "S -> A A [1.0]\nA -> 'a' 'b' [0.5] | 'b' 'a' [0.5]\n"


def test_a_changed_grammar_file_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text(GRAMMAR)
    asked = PcfgPretraining(
        grammar=str(tmp_path / "own.txt"),
        window=4,
        count_last=2,
        occurrence=1,
        token_back=2,
        priors=("0.6/0.4",),
    )
    first = PretrainingRun(asked, tmp_path / "out", "")
    (tmp_path / "out").mkdir()
    from veneer.models.files import write_json

    write_json(tmp_path / "out" / "pretraining.json", first._described)
    PretrainingRun(asked, tmp_path / "out", "")
    (tmp_path / "own.txt").write_text(GRAMMAR.replace("0.5", "0.25", 1).replace("0.5", "0.75"))
    with pytest.raises(InputError, match="rules of the grammar"):
        PretrainingRun(asked, tmp_path / "out", "")


@pytest.mark.parametrize("file", ["attention.safetensors", "model.safetensors"])
def test_verify_looks_at_capabilities_too(tmp_path: Path, file: str) -> None:
    from veneer.models.files import checksum, read_json, write_sealed

    run = Run.open(tmp_path / "run", "quick", fakes.EXPERIMENT)
    cells = fakes.cells_of(fakes.EXPERIMENT)
    fakes.write_surroundings(run, cells)
    for cell in cells:
        fakes.store(run, cell)
    folder = next((run.path / "capabilities").iterdir())
    about = read_json(folder / "accuracy.json")
    names = ("attention.safetensors", "model.json", "model.safetensors")
    write_sealed(folder / "accuracy.json", {**about, "files": {n: checksum(folder / n) for n in names}})
    assert verify(run) == []
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    assert verify(run) == [f"capabilities/{folder.name}: {file} is damaged"]


def test_a_recorded_method_has_its_identity_and_is_not_run() -> None:
    method = recorded({"type": "Mine", "weight": 0.5, "source": "0123"}, teaches=False)
    assert method.describe() == {"type": "Mine", "weight": 0.5, "source": "0123"}
    assert not method.teaches
    with pytest.raises(InputError, match="its code is not run"):
        method.prepare(None, [0])  # pyright: ignore[reportArgumentType]


def test_the_tables_over_seeds_go_when_seeds_come(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", fakes.EXPERIMENT)
    cells = fakes.cells_of(fakes.EXPERIMENT)
    run.plan([cell for cell in cells if cell.seed == 0], 3)
    for name in ("verdicts", "pruning"):
        (run.path / "analysis").mkdir(exist_ok=True)
        pl.DataFrame({"x": [1]}).write_parquet(run.path / "analysis" / f"{name}.parquet")
    run.plan(cells, 3)
    assert [file.stem for file in (run.path / "analysis").iterdir()] == ["pruning"]
