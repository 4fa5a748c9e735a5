"""placeholder replaced below"""
from pathlib import Path
from veneer.store import Run
def write_report(run: Run) -> Path:
    return run.path / "report.html"
