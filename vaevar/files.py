"""Room on the disk: said, and checked, before a store is begun."""

from __future__ import annotations

import shutil
from pathlib import Path

from vaevar.errors import UserError


def check_disk(path: Path, need: int, contents: str) -> None:
    """Say what will be written, and do not begin what cannot end.

    Args:
        path: the store to be; its directory is there.
        need: bytes, at most.
        contents: what they are, such as ``700 samples``.

    Raises:
        UserError: when there is less room.
    """
    free = shutil.disk_usage(path.parent).free
    print(f"{path}: {contents}, at most {size_text(need)} to write ({size_text(free)} free)")
    if need > free:
        raise UserError(
            f"{path}: {size_text(need)} may be needed, but only {size_text(free)} are free there; make room, "
            "give another path, a shorter period, or a coarser grid"
        )


def size_text(size: int) -> str:
    """Such as ``4.52 MB``."""
    for unit, of_it in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= of_it:
            return f"{size / of_it:.{max(0, 3 - len(str(size // of_it)))}f} {unit}"
    return f"{size} B"
