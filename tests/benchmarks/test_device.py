"""``make device-check``: what a part told is kept whatever becomes of it, and a dry run claims nothing."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import device, device_fleets, device_models
from benchmarks.device import MARK, PARTS, SECONDS, Part, check

HANGS = f"print({MARK!r} + '{{\"found\": 1}}', flush=True); import time; time.sleep(600)"
BREAKS = f"print({MARK!r} + '{{\"found\": 1}}', flush=True); raise RuntimeError('out of memory')"


def test_every_part_has_its_function_and_all_fit_the_time() -> None:
    for part in PARTS:
        assert callable(getattr(device_fleets, part.name, None) or getattr(device_models, part.name))
    assert sum(part.seconds for part in PARTS) <= SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(("script", "error"), [(HANGS, "stopped after"), (BREAKS, "out of memory")])
def test_what_a_part_told_before_it_failed_is_kept(
    script: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_command", lambda part, dry, limit: [sys.executable, "-c", script])
    file = tmp_path / "found.json"
    parts = [Part("first", 20, "fails"), Part("second", 20, "comes after it")]
    check(parts, False, 60, file)
    found = json.loads(file.read_text())["parts"]
    assert list(found) == ["first", "second"]
    for own in found.values():
        assert own["found"] == 1
        assert error in own["error"]


def test_what_no_time_is_left_for_is_not_begun(tmp_path: Path) -> None:
    found = check([PARTS[0]], False, 1, tmp_path / "found.json")
    assert found["parts"][PARTS[0].name]["error"] == "no time was left"


@pytest.mark.slow
def test_a_dry_run_says_that_it_says_nothing_about_gpus(tmp_path: Path) -> None:
    found = check([PARTS[0]], True, SECONDS, tmp_path / "found.json")
    assert found["dry"]
    assert "nothing about GPUs" in found["about"]
    assert found["parts"]["machine"]["float32, TFLOP/s"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["device", "--json", str(tmp_path / "found.json")])
    with pytest.raises(SystemExit) as ended:
        device.main()
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
