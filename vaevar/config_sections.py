"""Sections of a job's configs as objects, for programs that need its model or its data and no trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

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
