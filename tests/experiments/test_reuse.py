"""What another run has trained is copied, whole chains of one training only, and it is written down."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.tiny import CPU, EXPERIMENT, UPDATES, Quiet
from veneer.commands.main import main
from veneer.experiments import reuse
from veneer.experiments.begin import ask
from veneer.experiments.deciding import seconds_per_update
from veneer.experiments.keep import keep
from veneer.experiments.named import CounterExperiment
from veneer.experiments.reuse import recorded
from veneer.experiments.run import execute
from veneer.experiments.status import verify
from veneer.experiments.store import Run
from veneer.experiments.sweep import Sweep
from veneer.finetune.cell import Cell
from veneer.models.files import checksum, read_json, write_json, write_sealed
from veneer.report.page import write_report
from veneer.tasks.errors import InputError

LONGER = replace(EXPERIMENT, reft_iterations=11)
"""Its fine-tunings are those of ``EXPERIMENT``, its reFTs are others."""
TUNED = 2 * EXPERIMENT.iterations


@pytest.fixture(scope="module")
def lender(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(EXPERIMENT, tmp_path_factory.mktemp("reuse") / "lender")[0].path


@pytest.fixture
def own(lender: Path, tmp_path: Path) -> Run:
    """A lender that a test may damage."""
    return Run(Path(shutil.copytree(lender, tmp_path / "lender")))


def trained(experiment: CounterExperiment, out: Path, others: Sequence[Path] = ()) -> tuple[Run, int, int]:
    """A run to its end, how many models it took over, and how many updates it made itself."""
    begun, told = ask(Sweep(experiment), out, "cpu", reuse=others).ready().begin("quick", ""), Quiet()
    execute(begun.prepared, begun.run, CPU, begun.fleets, told)
    return begun.run, begun.reused, told.trained


def fine_tunings(run: Run) -> list[Path]:
    return [run.cell_path(cell["id"]) for cell in run.cells() if cell["stage"]["name"] == "fine-tune"]


def test_finished_models_are_copied_and_only_the_others_are_trained(lender: Path, tmp_path: Path) -> None:
    run, reused, updates = trained(LONGER, tmp_path / "run", [lender])
    assert (reused, updates) == (2, UPDATES - 2 * 10 - TUNED + 2 * 11)
    assert len(run.cells()) == 4 and not verify(run)
    for folder in fine_tunings(run):
        theirs = lender / "cells" / folder.name
        assert {file.name: checksum(file) for file in folder.iterdir()} == {
            file.name: checksum(file) for file in theirs.iterdir()
        }
    assert trained(LONGER, tmp_path / "run", [lender])[1:] == (2, 0), "all is there"
    assert trained(EXPERIMENT, tmp_path / "same", [lender])[1:] == (4, 0)


def test_where_copies_come_from_is_written_down_and_on_the_page(lender: Path, tmp_path: Path) -> None:
    run, _, _ = trained(LONGER, tmp_path / "run", [lender])
    record, commit = read_json(run.path / "reused.json"), read_json(lender / "environment.json")["commit"]
    assert record.keys() == {folder.name for folder in fine_tunings(run)}
    for cell, told in record.items():
        weights = checksum(run.cell_path(cell) / "model.safetensors")
        assert told == {"run": str(lender), "commit": commit, "device": "cpu", "weights": weights}
    page = write_report(run).read_text()
    assert f"2 of the models were trained in {lender} (commit {commit}, cpu) and taken over." in page
    again, _, _ = trained(replace(LONGER, reft_iterations=12), tmp_path / "again", [run.path])
    assert read_json(again.path / "reused.json") == record, "of copies of copies, who trained them"
    kept = Run(keep(run, tmp_path / "kept"))
    assert recorded(kept) == record, "though it has no weights to compare"
    assert "taken over" in write_report(kept).read_text()
    (run.path / "reused.json").write_text("{")
    assert any("reused.json" in problem for problem in verify(run))


def test_the_pace_of_a_run_is_not_that_of_its_copies(own: Run, tmp_path: Path) -> None:
    """They keep the hour at which they were trained."""
    for file in own.path.rglob("cell.json"):
        os.utime(file, (1e9, 1e9))
    run, _, _ = trained(replace(LONGER, learning_rates=(1e-2, 1e-3, 1e-4)), tmp_path / "run", [own.path])
    pace = seconds_per_update(run)
    assert pace is not None and pace < 10


def change_weights(folder: Path) -> None:
    """As if another training had ended there: whole, with other weights."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, file)
    described = json.loads((folder / "cell.json").read_text())
    described["files"]["model.safetensors"] = checksum(file)
    write_json(folder / "cell.json", described)


def test_a_model_is_not_taken_on_top_of_another_training(own: Run, tmp_path: Path) -> None:
    """The run has its own fine-tunings; the lender's reFTs began from others."""
    run, _, _ = trained(replace(EXPERIMENT, reft_rates=()), tmp_path / "run")
    for folder in fine_tunings(own):
        change_weights(folder)
    assert trained(EXPERIMENT, run.path, [own.path])[1:] == (0, 2 * 10)


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_what_is_not_whole_is_trained(own: Run, tmp_path: Path, harm: str) -> None:
    folder = fine_tunings(own)[0]
    if harm == "damaged":
        (folder / "model.safetensors").write_bytes(b"no")
    else:
        shutil.rmtree(folder)
    assert trained(EXPERIMENT, tmp_path / "run", [own.path])[1:] == (2, UPDATES // 2)


def test_where_a_copy_is_from_is_written_before_it_is_made(
    lender: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off, the copies that are there are known as such, and the rest is taken the next time."""
    real, made = reuse._copy, list[str]()

    def stopping(source: Run, target: Run, cell: str) -> None:
        if len(made) == 1:
            raise KeyboardInterrupt
        real(source, target, cell)
        made.append(cell)

    monkeypatch.setattr(reuse, "_copy", stopping)
    with pytest.raises(KeyboardInterrupt):
        trained(EXPERIMENT, tmp_path / "run", [lender])
    monkeypatch.undo()
    assert recorded(Run(tmp_path / "run")).keys() == set(made)
    assert trained(EXPERIMENT, tmp_path / "run")[1:] == (0, UPDATES - EXPERIMENT.iterations)
    assert recorded(Run(tmp_path / "run")).keys() >= set(made)
    assert trained(EXPERIMENT, tmp_path / "other", [lender])[1:] == (4, 0)


def test_what_a_run_has_trained_itself_stays_though_its_plan_is_lost(own: Run, tmp_path: Path) -> None:
    run, _, _ = trained(EXPERIMENT, tmp_path / "run")
    before = {cell["id"]: checksum(run.cell_path(cell["id"]) / "model.safetensors") for cell in run.cells()}
    for folder in fine_tunings(own):
        change_weights(folder)
    (run.path / "plan.json").unlink()
    assert trained(EXPERIMENT, run.path, [own.path])[1:] == (0, 0)
    assert before == {cell: checksum(run.cell_path(cell) / "model.safetensors") for cell in before}


def test_who_only_looks_at_a_finished_run_is_not_said_to_have_trained_it(own: Run) -> None:
    environment = read_json(own.path / "environment.json") | {"commit": "earlier"}
    write_sealed(own.path / "environment.json", environment)
    trained(EXPERIMENT, own.path)
    assert read_json(own.path / "environment.json")["commit"] == "earlier"


def test_a_run_that_cannot_lend_is_refused_and_nothing_is_written(
    own: Run, lender: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = read_json(own.path / "environment.json")
    write_sealed(own.path / "environment.json", environment | {"device": "NVIDIA H100"})
    (bare := tmp_path / "bare").mkdir()
    shutil.copy(own.path / "experiment.json", bare)
    kept = keep(Run(lender), tmp_path / "kept")
    faults = {own.path: "NVIDIA H100", tmp_path / "nothing": "experiment.json", bare: "environment.json"}
    for path, why in (*faults.items(), (kept, "no weights")):
        with pytest.raises(InputError, match=f"^reuse = .*{why}"):
            trained(EXPERIMENT, tmp_path / "run", [path])
        for command in ("run", "sweep"):
            with pytest.raises(SystemExit) as stopped:
                main(
                    [
                        command,
                        "counter",
                        "--reuse",
                        str(path),
                        "--out",
                        str(tmp_path / "run"),
                        "--device",
                        "cpu",
                    ]
                )
            said = capsys.readouterr().err
            assert stopped.value.code == 2 and said.startswith("veneer: reuse = ") and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_terminal_says_how_many_and_a_sweep_takes_them_too(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [
        "--length",
        "6",
        "--c-tr",
        "1",
        "--learning-rates",
        "1e-2",
        "--reft-rates",
        "1e-3",
        "--iterations",
        "8",
        "--seeds",
        "2",
    ]
    small += ["--evaluation-samples", "20", "--device", "cpu"]
    plain = [*small, "--no-controls", "--no-third-operand"]
    main(["run", "counter", *plain, "--reft-iterations", "4", "--out", str(tmp_path / "a")])
    out = ["--reuse", str(tmp_path / "a"), "--out", str(tmp_path / "b")]
    main(["run", "counter", *plain, "--reft-iterations", "5", *out])
    assert f"2 of them are taken over from {tmp_path / 'a'}" in " ".join(capsys.readouterr().out.split())
    words = [*small, "--controls", "false", "--third-operand", "false", "--reft-iterations", "4,6"]
    out = ["--reuse", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "sweep")]
    main(["sweep", "counter", *words, *out, "--dry-run"])
    assert "6 cells at 2 points of the grid" in (said := " ".join(capsys.readouterr().out.split()))
    assert f"4 cells are finished in {tmp_path / 'sweep'} or {tmp_path / 'a'} or {tmp_path / 'b'}" in said
    assert "fine-tune ×" not in said and "reft ×" in said, "only what is left is timed"
    assert not (tmp_path / "sweep").exists()
    main(["sweep", "counter", *words, "--reuse", str(tmp_path / "a"), "--out", str(tmp_path / "a-sweep")])
    capsys.readouterr()
    shutil.rmtree(tmp_path / "a-sweep" / "cells")
    main(["sweep", "counter", *words, *out[:3], "--out", str(tmp_path / "a-sweep"), "--dry-run"])
    planned = " ".join(capsys.readouterr().out.split())
    assert "; 0 cells are finished" in planned, "what is planned is trained as it is planned"
    main(["sweep", "counter", *words, *out])
    assert "4 of them are taken over from" in " ".join(capsys.readouterr().out.split())
    assert len(read_json(tmp_path / "sweep" / "reused.json")) == 4


def test_a_copy_that_was_trained_again_is_no_copy_any_more(lender: Path, tmp_path: Path) -> None:
    run, _, _ = trained(LONGER, tmp_path / "run", [lender])
    change_weights(fine_tunings(run)[0])
    assert recorded(run).keys() == {fine_tunings(run)[1].name}


def test_the_command_that_would_decide_takes_over_what_is_there_and_counts_it(
    cache: Path, tmp_path: Path
) -> None:
    """Its minutes are those of the updates that are left, to a tenth."""
    from tests.experiments.test_deciding import OPEN, read
    from veneer.experiments import deciding

    small = replace(EXPERIMENT, seeds=2, controls=True, third_operand=True)
    run, _, _ = trained(small, tmp_path / "run")
    values = {"fine_tuning_rate": 1e-2, "c_tr": 1.0, "capability": "compiled"}
    command = deciding.deciding_command(run, values, OPEN, seeds=2)
    assert f"--reuse {run.path} " in command
    asked = read(command)
    begun = ask(Sweep(asked), tmp_path / "decided", "cpu", reuse=[run.path]).ready().begin("quick", "")
    left = [cell for cell in begun.prepared.cells if not begun.run.has(cell)]
    counted = deciding.updates_of(json.loads(json.dumps(vars(asked)))) - deciding._reused(
        run.experiment["fields"], 1e-2, False
    )
    assert sum(updates(cell) for cell in left) == pytest.approx(counted, rel=0.1)
    assert "(about " in command
    kept = deciding.deciding_command(Run(keep(run, tmp_path / "kept")), values, OPEN, seeds=2)
    assert "--reuse" not in kept and "(about " not in kept, "the times of copies are not those of training"


def updates(cell: Cell) -> int:
    return cell.stage.recipe.iterations
