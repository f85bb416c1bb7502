"""``vaevar init DIR``: the configs of an installed vaevar, copied to where its user works with them."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from vaevar.errors import UserError, fault_of
from vaevar.runs.expansion import expand_path
from vaevar.runs.stopping import install
from vaevar.shipped import CONFIGS, REPOSITORY


def main(words: list[str]) -> None:
    """Copy what the command line asks for; a user's mistake is one line and exit code 2.

    Args:
        words: of the command line, after ``init``.
    """
    given = parser().parse_args(words)
    install()
    try:
        for line in init(given.directory, given.weights):
            print(line)
    except (UserError, OSError) as error:  # without vaevar.scripts, which takes seconds to import
        mistake = fault_of(error) if isinstance(error, OSError) else error
        if mistake is None:
            raise
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None


def parser() -> argparse.ArgumentParser:
    """What ``vaevar init`` takes."""
    made = argparse.ArgumentParser(
        prog="vaevar init", description="Copy vaevar's configs, and weights, to where you work with them."
    )
    made.add_argument("directory", metavar="DIR", help="made if it is missing; nothing there is replaced")
    made.add_argument(
        "--weights",
        metavar="PATH",
        help="the directory weights/ of a clone of the repository; not needed if vaevar runs from one",
    )
    return made


def init(directory: str, weights: str | None = None) -> list[str]:
    """Copy the configs, and the weights if it is known where they are; what is there already stays.

    Args:
        directory: gets ``configs/`` and ``weights/``.
        weights: of a clone. None: those of the clone that the package is used from, if it is.

    Returns:
        lines that say what was done, and what to do next.

    Raises:
        UserError: when the weights are not in the place that was given, or nothing can be written.
    """
    target = Path(expand_path(directory))
    source = _weights(weights)
    lines = [_copied(CONFIGS, target / "configs")]
    if source is not None:
        lines.append(_copied(source, target / "weights"))
    lines.append("where the comment at the top of a config says `python main.py`, type `vaevar`")
    if (target / "weights").exists():
        there = "" if target.resolve() == Path.cwd() else f"cd {shlex.quote(str(target))} && "
        lines.append(f"next: {there}vaevar predict --config configs/quick.yaml")
    else:
        lines.append(
            f"next: the weights that configs name are in vaevar's repository, not in the package: "
            f"`vaevar init {shlex.quote(directory)} --weights CLONE/weights` copies them"
        )
    return lines


def _weights(given: str | None) -> Path | None:
    if given is None:
        found = None if REPOSITORY is None else REPOSITORY / "weights"
        return found if found is not None and found.is_dir() else None
    path = Path(expand_path(given))
    if not (path / "forecaster.onnx").is_file():
        raise UserError(
            f"{path}: has no forecaster.onnx; give the directory weights/ of a clone of vaevar's repository"
        )
    return path


def _copied(source: Path, target: Path) -> str:
    """Copy a directory whole or not at all, and say so."""
    if target.exists() or target.is_symlink():
        return f"{target}: is there already, and stays as it is"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as made:
        shutil.copytree(source, Path(made) / target.name).rename(target)
    files = [path for path in target.rglob("*") if path.is_file()]
    return f"{target}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
