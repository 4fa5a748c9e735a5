"""What is kept of a run says what the run says, without its weights."""

from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from tests.tiny import CPU, EXPERIMENT, Quiet
from veneer.claims.view import View
from veneer.experiments.cells import Prepared
from veneer.experiments.content import read_content
from veneer.experiments.keep import keep, main
from veneer.experiments.run import execute
from veneer.experiments.store import Run
from veneer.report.page import write_report
from veneer.tasks.errors import InputError


@pytest.fixture(scope="module")
def run(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.open(tmp_path_factory.mktemp("kept") / "run", "quick", EXPERIMENT)
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    return run


def test_a_kept_run_is_read_as_the_run_is_and_has_no_weights(run: Run, tmp_path: Path) -> None:
    kept = Run.read(keep(run, tmp_path / "kept"))
    assert not list(kept.path.rglob("model.safetensors"))
    assert_frame_equal(kept.metrics(), run.metrics())
    ours, theirs = read_content(kept), read_content(run)
    assert ours.baselines == theirs.baselines
    assert [c["id"] for c in ours.cells] == [c["id"] for c in theirs.cells]
    assert write_report(kept).stat().st_size > 10_000


def test_without_attention_maps_claims_read_what_is_kept(run: Run, tmp_path: Path) -> None:
    main([str(run.path), str(tmp_path / "kept"), "--no-maps"])
    assert not list((tmp_path / "kept").rglob("attention.safetensors"))
    kept = Run.read(tmp_path / "kept")
    assert View(kept).finished
    assert_frame_equal(View(kept).tuned, View(run).tuned)
    with pytest.raises(
        InputError, match=r"kept without attention.safetensors; valid: a run with its attention maps"
    ):
        write_report(kept)


def test_nothing_is_overwritten_and_a_folder_that_is_no_run_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    for words in ([str(run.path), str(tmp_path / "there")], [str(tmp_path), str(tmp_path / "new")], []):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3
    assert not (tmp_path / "new").exists()
