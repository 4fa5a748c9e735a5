"""What ``veneer push`` lays out of models answers as in the run, opened by ``transformers`` or by Veneer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import veneer
from tests.tiny import CPU, EXPERIMENT, Quiet
from veneer.commands.main import main
from veneer.experiments.cells import Prepared
from veneer.experiments.run import execute
from veneer.experiments.store import Run
from veneer.pcfg.capability import LearnedCapability

OPEN = """
import json, sys, torch, transformers
where = sys.argv[1], {"subfolder": sys.argv[2]}
model = transformers.AutoModelForCausalLM.from_pretrained(where[0], **where[1])
tokenizer = transformers.AutoTokenizer.from_pretrained(where[0], **where[1])
read = tokenizer(sys.argv[3], return_tensors="pt")
with torch.no_grad():
    logits = model(input_ids=read["input_ids"]).logits[0, -1]
answer = tokenizer.decode(logits.argmax())
print(json.dumps({"ids": read["input_ids"][0].tolist(), "logits": logits.tolist(), "answer": answer}))
"""


@pytest.mark.slow
def test_transformers_answers_as_the_capability_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    main(["push", "M", "--out", str(tmp_path / "hub")])
    assert "--repo-type model" in capsys.readouterr().out
    learned = veneer.load_capability("M")
    assert isinstance(learned, LearnedCapability)
    text, words = "c" * 20 + "a" * 20, learned.layout.vocabulary
    ids = learned.token_ids(text, operand="a")
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(tmp_path / "hub"), "M", " ".join(words[i] for i in ids)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ids"] == ids
    ours = learned.logits(text, operand="a")[learned.answer_position]
    assert torch.allclose(torch.tensor(found["logits"]), ours, atol=1e-4)
    assert found["answer"] == learned.answer(text, operand="a")
    assert not list((tmp_path / "hub").rglob("*.py")) and not list((tmp_path / "hub").rglob("*.bin"))


def test_written_models_of_a_run_are_laid_out_as_veneer_reads_them(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    main(["push", str(run.path), "--out", str(tmp_path / "hub")])
    assert "4 models and a card" not in (said := " ".join(capsys.readouterr().out.split()))
    assert "5 models and a card" in said, "two fine-tunings, a reFT of each, and what they started from"
    names = sorted(path.name for path in (tmp_path / "hub").iterdir() if path.is_dir())
    assert names == [
        "capability-seed-0",
        "fine-tune-rate-0.001-share-1-seed-0",
        "fine-tune-rate-0.01-share-1-seed-0",
        "reft-0.001-rate-0.001-share-1-seed-0",
        "reft-0.001-rate-0.01-share-1-seed-0",
    ]
    tuned = run.model(rate=1e-2, c_tr=1, seed=0, reft=1e-3)
    shared = veneer.load_capability(tmp_path / "hub" / names[-1])
    for text in ("abcdab", "aaaabb"):
        assert torch.equal(shared.logits(text), tuned.logits(text))
    card = (tmp_path / "hub" / "README.md").read_text()
    assert all(f"`{name}`" in card for name in names)
    assert "library_name: veneer" in card and 'veneer.load_capability("FOLDER/' in card


def test_what_is_nothing_of_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["push", str(tmp_path / "mine"), "--out", str(tmp_path / "hub")])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "WHAT = " in told and "veneer generate, run, pretrain or compile" in told
    assert not (tmp_path / "hub").exists() and not (tmp_path / "hub.partial").exists()
