"""Files are replaced whole or not at all, and sizes read well."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import Timeout

from vaevar.errors import UserError, fault_of
from vaevar.files import (
    check_disk,
    file_lock,
    place_of_store,
    replacing,
    require_writable,
    save_array,
    save_tensors,
    save_text,
    size_text,
)


def test_a_file_appears_whole_in_a_directory_that_is_created(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.csv"
    with replacing(path) as partial:
        partial.write_text("half")
        assert partial.parent == path.parent
        assert not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_disk_must_have_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "store.zarr"
    check_disk(path, 1000, "3 samples")
    assert capsys.readouterr().out.startswith(f"{path}: 3 samples, at most 1.00 kB to write (")
    with pytest.raises(UserError, match=r"GB may be needed, but only .* are free there"):
        check_disk(path, 10**18, "3 samples")


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (4_520_000, "4.52 MB"), (123_400_000_000, "123 GB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "disk" / "weights.pt", tmp_path / "weights.pt"
    link.symlink_to(elsewhere)
    for number in (1.0, 2.0):  # the first time it leads to nothing
        save_tensors(link, {"x": torch.tensor(number)})
        assert link.is_symlink()
        assert torch.load(elsewhere, weights_only=True)["x"] == number
    assert place_of_store(link.with_name("new.zarr")) == link.with_name("new.zarr")
    with pytest.raises(UserError, match=r"weights\.pt: is a file, where the directory of a store"):
        place_of_store(link)


def test_an_array_has_the_name_that_was_given(tmp_path: Path) -> None:
    path = tmp_path / "a 'new' dir\u00ebctory\nof two lines" / "std"
    save_array(path, np.arange(3.0))
    np.testing.assert_array_equal(np.load(path), np.arange(3.0))
    assert list(path.parent.iterdir()) == [path]


def test_outputs_are_tried_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.nc"
    require_writable(path)
    assert list(path.parent.iterdir()) == []
    save_text(path, "old")
    require_writable(path)
    assert path.read_text() == "old"
    with pytest.raises(UserError, match=r"new: is a directory; give the name of the file"):
        require_writable(path.parent)
    with pytest.raises(UserError, match=r"result\.nc/x: cannot be written \("):
        require_writable(path / "x")
    with pytest.raises(UserError, match=r"cannot be written \(File name too long\)"):
        require_writable(tmp_path / ("x" * 300))


HOLD = """
import sys; from pathlib import Path; from vaevar.files import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True); sys.stdin.read()
"""


@pytest.mark.parametrize("code", [None, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_locks_exclude_and_end_with_their_process(
    code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, without = tmp_path / "store.lock", ""
    path.touch()  # left behind when the file system still had locks
    if code is not None:

        def flock(*_: Any) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", flock)
        without = f"import fcntl\ndef f(*_): raise OSError({code}, 'no locks')\nfcntl.flock = f\n"
    words = [sys.executable, "-c", without + HOLD, str(path)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Timeout), file_lock(path).acquire(timeout=0):
        pass
    holder.kill()
    holder.wait()
    with file_lock(path).acquire(timeout=20):
        pass


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no device that is always full")

    def write(path: Path) -> None:
        with full.open("w") as file:
            file.write(str(path) * 10_000)

    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "scores.csv")
    fault = fault_of(caught.value)
    assert fault is not None
    assert str(fault).endswith("scores.csv: No space left on device; free some space there, or raise the "
                               "quota, and give the same call again")  # fmt: skip


def test_partial_names_are_not_told_and_missing_files_are_no_fault_of_the_environment() -> None:
    told = fault_of(OSError(errno.EROFS, "Read-only file system", "data/errors.zarr.123.partial"))
    assert str(told).startswith("data/errors.zarr: Read-only file system; give another path")
    assert fault_of(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")) is None
