"""Files, patterns and directories count by content; what is too large to read, by pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vaevar.content.digest import content_digest, same_content
from vaevar.provenance import fingerprint


def described(text: Any) -> dict[str, Any]:
    digest = content_digest(str(text))
    assert digest is not None
    return {"file": str(text), **digest._asdict()}


def test_a_large_file_counts_by_its_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaevar.content.digest._LARGE", 1000)
    monkeypatch.setattr("vaevar.content.digest._PIECE", 10)
    path = tmp_path / "era5.nc"
    content = bytearray(10_000)
    path.write_bytes(content)
    before = described(path)
    for place in (0, 39, 9999):
        content[place] = 1
        path.write_bytes(content)
        assert not same_content(before, described(path)), place
        content[place] = 0
    path.write_bytes(content)
    assert same_content(before, described(path))
    path.write_bytes(content + b"0")
    assert not same_content(before, described(path))


def test_a_pattern_counts_by_its_files_and_may_name_more(tmp_path: Path) -> None:
    pattern = tmp_path / "era5-*.nc"
    assert content_digest(str(pattern)) is None
    for year in (2020, 2021):
        (tmp_path / f"era5-{year}.nc").write_text(str(year))
    before = described(pattern)
    (tmp_path / "era5-2022.nc").write_text("2022")
    assert same_content(before, described(pattern))
    assert not same_content(described(pattern), before)
    (tmp_path / "era5-2021.nc").write_text("2021, mended")
    assert not same_content(before, described(pattern))


def test_a_fingerprint_knows_the_stores_that_a_config_names(tmp_path: Path) -> None:
    store = tmp_path / "era5.zarr"
    store.mkdir()
    config = {"data": {"path": str(store), "restarts": str(tmp_path)}}
    before = fingerprint(config)
    (tmp_path / "restart").touch()  # of other directories only the name counts
    assert fingerprint(config) == before
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    made = fingerprint(config)
    (store / ".zattrs").write_text('{"title": "other"}')
    assert before != made != fingerprint(config)
