"""Programs beside ``main.py``: modules that are run with ``python -m``, and those of benchmarks/."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, auto_cli

from vaevar.errors import UserError


def read_contents(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """What is in some config files, in their order.

    Raises:
        UserError: when one is missing or no config.
    """
    return [_read(Path(path)) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as a config ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no config: it holds no sections such as model: and data:")
    return content


def instantiate(contents: Iterable[Mapping[str, Any]], **kinds: type) -> Namespace:
    """Objects of some sections of configs, later ones winning as on the command line.

    Args:
        contents: of config files, and settings in their form.
        kinds: the base class of each section, such as ``model=VAE``; the other sections are left alone.
    """
    parser = ArgumentParser()
    for name, kind in kinds.items():
        parser.add_subclass_arguments(kind, name)
    settings = parser.get_defaults()
    for content in contents:
        sections = {name: content[name] for name in kinds if name in content}
        settings = parser.parse_object(sections, namespace=settings)
    return parser.instantiate(settings)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake is one line and exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run(function: Callable[..., Any], args: list[str] | None = None) -> None:
    """Call it with what the command line says.

    Args:
        function: its parameters are the options.
        args: instead of the command line.
    """
    with one_line_errors():
        auto_cli(function, as_positional=False, args=args)
