"""Files are replaced whole or not at all, and sizes read well."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaevar.errors import UserError
from vaevar.files import check_disk, replacing, size_text


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
