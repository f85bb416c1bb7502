"""Random damage: to bytes, to the structure of a config, and to the metadata of a store."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

# What people, editors and programs put in the place of a value.
STRANGE: list[Any] = [
    None, True, 0, -1, 1, 7, 0.5, -2.5, 1e30, -1e300, 10**20, float("nan"), float("inf"), "", " ", "x", "nan",
    "None", "2021-01-03", "2021-01-03T06:30", "truth.zarr", "drift.onnx", "vae.ckpt", ".", "..", "~", "$HOME",
    "a/b", "\u202e", "λ", "\0", "0x10", "1,000", "1e3", "*", "- a", "{", [], {}, [[]], [None], [1, "a"],
    {"class_path": "FreeRun"}, {"class_path": "os.system"}, {"init_args": {}}, {"class_path": ""},
    ["FreeRun"], "FreeRun", "VAE", "!!python/object/apply:os.getpid []", "x" * 5000,
]  # fmt: skip
# Their values start other processes, which would run this program again.
LEFT_ALONE = ("devices", "num_nodes", "strategy", "plugins")


def damaged(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Bytes with one kind of damage, and what it was."""
    if not content:
        return b"?", "a byte where none was"
    start = chance.randrange(len(content))
    length = min(len(content) - start, chance.choice([1, 2, 8, 64, 1024]))
    before, part, after = content[:start], content[start : start + length], content[start + length :]
    kinds: dict[str, Callable[[], bytes]] = {
        "a bit flipped": lambda: before + bytes([part[0] ^ (1 << chance.randrange(8))]) + part[1:] + after,
        "bytes drawn at random": lambda: before + chance.randbytes(length) + after,
        "zeros": lambda: before + bytes(length) + after,
        "bytes of 255": lambda: before + b"\xff" * length + after,
        "bytes taken out": lambda: before + after,
        "bytes put in": lambda: before + chance.randbytes(length) + part + after,
        "bytes twice": lambda: before + part + part + after,
        "cut": lambda: before,
        "the beginning gone": lambda: after,
        "parts exchanged": lambda: content[start:] + before,
        "lines ended as on Windows": lambda: content.replace(b"\n", b"\r\n"),
    }
    kind = chance.choice(list(kinds))
    return kinds[kind](), f"{kind}, {length} bytes at {start} of {len(content)}"


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in nested mappings and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        if key not in LEFT_ALONE:
            yield (*path, key)
            if isinstance(value, dict | list):
                yield from places(value, (*path, key))


def restructured(content: Any, chance: random.Random) -> str:
    """Change one value or key of nested mappings and lists in place; what it was."""
    path = chance.choice(list(places(content)))
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    name, last = ".".join(map(str, path)), path[-1]
    kind = chance.choice(["value", "value", "value", "gone", "renamed", "list", "copied", "scaled"])
    if kind == "gone":
        del parent[last]
    elif kind == "renamed" and isinstance(parent, dict):
        letters = list(str(last))
        letters[chance.randrange(len(letters))] = chance.choice("abcxyz_.-")
        parent["".join(letters)] = parent.pop(last)
    elif kind == "list":
        parent[last] = [parent[last]]
    elif kind == "copied":
        other = chance.choice([p for p in places(content) if len(p) == 1])
        parent[last] = json.loads(json.dumps(content[other[0]], default=str))
    elif kind == "scaled" and type(parent[last]) in (int, float):
        parent[last] *= chance.choice([-1, 2, 10, 100, 0.001])
    else:
        parent[last] = chance.choice(STRANGE)
        return f"{name}: {parent[last]!r:.60}"
    return f"{name}: {kind}"


def fuzz_config(path: Path, chance: random.Random) -> str:
    """Damage a config: mostly its structure, sometimes its text."""
    if chance.random() < 0.2:
        content, what = damaged(path.read_bytes(), chance)
        path.write_bytes(content)
        return what
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    what = "; ".join(restructured(settings, chance) for _ in range(chance.choice([1, 1, 1, 2])))
    path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return what


def fuzz_store(path: Path, chance: random.Random) -> str:
    """Damage one file of a zarr store: a chunk, or metadata."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    described = [p for p in files if p.name.startswith(".") or p.name == "zarr.json"]
    file = chance.choice(described if chance.random() < 0.5 else files)
    if file in described and chance.random() < 0.6:
        content = json.loads(file.read_text(encoding="utf-8"))
        what = restructured(content, chance) if content else "nothing"
        file.write_text(json.dumps(content, default=str), encoding="utf-8")
    else:
        return f"{file.relative_to(path)}: {fuzz_file(file, chance)}"
    return f"{file.relative_to(path)}: {what}"


def fuzz_file(path: Path, chance: random.Random) -> str:
    """Damage the bytes of a file."""
    content, what = damaged(path.read_bytes(), chance)
    path.write_bytes(content)
    return what


def fuzz_header(path: Path, chance: random.Random) -> str:
    """Damage the bytes of the first part of a file."""
    content = path.read_bytes()
    length = min(len(content), 4000)
    head, what = damaged(content[:length], chance)
    path.write_bytes(head + content[length:])
    return what
