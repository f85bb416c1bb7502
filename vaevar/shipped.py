"""Where the files that come with vaevar lie, and how its user calls it: in a clone, or from a wheel.

A wheel holds the configs, as ``vaevar/configs``, but none of the weights, which are many times larger.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSIDE = _PACKAGE / "configs"
# The clone that the package is used from; None for one that was installed from a wheel.
REPOSITORY = None if _INSIDE.is_dir() else _PACKAGE.parent
CONFIGS = _INSIDE if REPOSITORY is None else REPOSITORY / "configs"


def typed(words: str) -> str:
    """A command of the program as its user types it.

    Args:
        words: after the program's name, such as ``fit --config configs/vae.yaml``.
    """
    installed = REPOSITORY is None or Path(sys.argv[0]).stem == "vaevar"
    return f"{'vaevar' if installed else 'python main.py'} {words}"


def shipped(path: Path) -> Path:
    """A path such as ``weights/speedy``: as it is if it is there, else that of the repository."""
    beside = None if REPOSITORY is None else REPOSITORY / path
    return beside if beside is not None and not path.exists() and beside.exists() else path


def missing_weights(path: str | Path) -> str:
    """What is said besides of a file that is not there: where it comes from; empty for a user's own file.

    Args:
        path: as a config names it.
    """
    if Path(path).parts[:1] != ("weights",):
        return ""
    source = shipped(Path("weights"))
    known = source if source.is_dir() and source.is_absolute() else "CLONE/weights"
    return (
        "; the files of weights/ come with vaevar's repository, not with the package: "
        f"`vaevar init . --weights {known}` copies them here"
    )
