"""Files survive a loss of power, and what is read is what was expected or is refused."""

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from veneer.models import files
from veneer.models.files import (
    Each,
    Perhaps,
    alone,
    fault,
    read_json,
    read_table,
    write_sealed,
    write_table,
    write_text,
)
from veneer.tasks.errors import InputError


class Disk:
    """What is on the disk after a loss of power: only what was synced, under the names that were synced.

    A file's content is kept when it is synced; a name points to it once its folder is synced.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.content, self.names = dict[int, bytes](), dict[str, int]()
        real = os.fsync

        def fsync(handle: int) -> None:
            real(handle)
            path = Path(os.readlink(f"/proc/self/fd/{handle}"))
            if path.is_dir():
                own = {str(file): file.stat().st_ino for file in path.iterdir() if file.is_file()}
                self.names = {n: i for n, i in self.names.items() if Path(n).parent != path} | own
            else:
                self.content[path.stat().st_ino] = path.read_bytes()

        monkeypatch.setattr(os, "fsync", fsync)

    def after_power_loss(self, path: Path) -> bytes | None:
        """A file's bytes; empty where only its name was kept, None where that was not either."""
        inode = self.names.get(str(path))
        return None if inode is None else self.content.get(inode, b"")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks the system which file a handle is of")
def test_what_is_written_outlives_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    write_text(tmp_path / "one.json", "old")
    assert disk.after_power_loss(tmp_path / "one.json") == b"old"
    real = os.replace

    def lights_out(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", lights_out)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "one.json", "new")
    assert disk.after_power_loss(tmp_path / "one.json") == b"old"
    monkeypatch.setattr(os, "replace", real)
    write_text(tmp_path / "one.json", "new")
    assert disk.after_power_loss(tmp_path / "one.json") == b"new"
    half = tmp_path / ".cell.tmp"
    half.mkdir()
    (half / "a").write_text("a")
    (half / "b").write_text("b")
    files.put_in_place(half, tmp_path / "cell")
    inodes = [(tmp_path / "cell" / name).stat().st_ino for name in "ab"]
    assert [disk.content[inode] for inode in inodes] == [b"a", b"b"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks the system which file a handle is of")
def test_what_is_written_for_later_reaches_the_disk_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    half = tmp_path / ".cell.tmp"
    half.mkdir()
    with files.later():
        write_text(half / "a", "a")
    assert disk.content == {}
    files.put_in_place(half, tmp_path / "cell")
    assert disk.content[(tmp_path / "cell" / "a").stat().st_ino] == b"a"
    write_text(tmp_path / "b", "b")
    assert disk.after_power_loss(tmp_path / "b") == b"b"


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.skipif(not hasattr(os, "sync"), reason="the system has no such call")
def test_many_folders_are_brought_to_the_disk_by_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    calls = list[str]()
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("one"))
    monkeypatch.setattr(os, "sync", lambda: calls.append("all"))

    def cells(count: int) -> None:
        with files.together(count):
            for i in range(count):
                half = tmp_path / f".{count}.{i}.tmp"
                half.mkdir()
                (half / "a").write_text("a")
                files.put_in_place(half, tmp_path / f"{count}-{i}")
            if broken:
                raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        cells(files.MANY)
    assert calls == ["all"]  # also of what was written before it broke
    calls.clear()
    with contextlib.suppress(KeyboardInterrupt):
        cells(2)
    assert calls and "all" not in calls
    calls.clear()
    write_text(tmp_path / "b", "b")
    assert calls == ["one", "one"]  # as before


SHAPES: list[tuple[Any, Any, str]] = [
    ({"a": 1}, {"a": int}, ""),
    ({"a": True}, {"a": int}, "a is True, not int"),
    ({"a": 1}, {"a": float}, ""),
    ({}, {"a": int}, "it lacks a"),
    ({}, {"a": Perhaps(int)}, ""),
    ({"a": None}, {"a": Perhaps(int)}, ""),
    ([], {"a": int}, "it is [], not an object"),
    (None, {"a": int}, "it is None, not an object"),
    ({"a": [1, "x"]}, {"a": [int]}, "a[1] is 'x', not int"),
    ({"x": {"y": 1}, "z": 3}, Each({"y": int}), "z is 3, not an object"),
    ({"a": {}}, {"a": {"b": str}}, "a lacks b"),
]


@pytest.mark.parametrize(("value", "shape", "says"), SHAPES)
def test_what_is_not_as_expected_is_named(value: Any, shape: Any, says: str) -> None:
    assert fault(value, shape) == says


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\x00", "nul", '{"a": 1', "\ud800"])
def test_damaged_json_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "x.json", dict)
    assert "\n" not in str(caught.value)


def test_a_sealed_file_tells_a_changed_digit(tmp_path: Path) -> None:
    write_sealed(tmp_path / "x.json", {"rate": 0.5, "names": ["a"]})
    assert read_json(tmp_path / "x.json") == {"rate": 0.5, "names": ["a"]}
    text = (tmp_path / "x.json").read_text()
    (tmp_path / "x.json").write_text(text.replace("0.5", "0.6"))
    with pytest.raises(InputError, match="seal"):
        read_json(tmp_path / "x.json")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    os.mkfifo(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no ordinary file"):
        read_json(tmp_path / "x.json")
    with pytest.raises(InputError, match="no ordinary file"):
        read_table(tmp_path / "x.parquet")
    assert files.checksum(tmp_path / "x.json") == ""


def test_a_table_is_read_by_its_name_and_not_by_a_pattern(tmp_path: Path) -> None:
    for name, value in (("[a]", 1), ("a", 2), ("x*", 3), ("xy", 4)):
        write_table(tmp_path / name / "t.parquet", pl.DataFrame({"n": [value]}))
    read = [read_table(tmp_path / name / "t.parquet")["n"].to_list() for name in ("[a]", "a", "x*", "xy")]
    assert read == [[1], [2], [3], [4]]


@pytest.mark.parametrize("damage", ["noise", "empty", "folder", "cut", "missing", "lacks", "type"])
def test_a_table_that_is_not_ours_is_refused(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "t.parquet"
    write_table(file, pl.DataFrame({"n": [1.0] if damage == "type" else [1], "m": ["x"]}))
    content = file.read_bytes()
    file.unlink()
    match damage:
        case "folder":
            file.mkdir()
        case "noise" | "empty" | "cut":
            file.write_bytes({"noise": b"PAR1nonsense", "empty": b"", "cut": content[:60]}[damage])
        case "lacks" | "type":
            file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(file, {"n": pl.Int64, "absent": pl.Int64} if damage == "lacks" else {"n": pl.Int64})
    assert "\n" not in str(caught.value)


def test_a_lock_whose_file_was_removed_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One opens the lock's file; the holder leaves and removes it; a third makes a new one: two locks."""
    fcntl = pytest.importorskip("fcntl", reason="locks of this kind are POSIX")
    opened, go_on, inside = threading.Event(), threading.Event(), threading.Event()
    real, out = fcntl.flock, tmp_path / "data"

    def late(handle: int, how: int) -> None:
        if threading.current_thread() is second and not opened.is_set():
            opened.set()
            go_on.wait(10)
        real(handle, how)

    def enter() -> None:
        with alone(out):
            inside.set()

    second = threading.Thread(target=enter)
    monkeypatch.setattr(fcntl, "flock", late)
    with alone(out):
        second.start()
        assert opened.wait(10)
    with alone(out):
        go_on.set()
        assert not inside.wait(0.5), "two hold what is one folder's lock"
    assert inside.wait(10)
    second.join()
    assert not list(tmp_path.iterdir())


def test_whoever_writes_a_file_at_the_same_time_disturbs_nobody(tmp_path: Path) -> None:
    """Two threads, or processes of one number on two machines, that end a run in one folder."""
    with files.replacing(tmp_path / "one") as mine:
        mine.write_text("mine")
        write_text(tmp_path / "one", "theirs")
    assert (tmp_path / "one").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
