"""Changes of the bytes of a file, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from changes.kinds import Change

Damage = Callable[[bytes], bytes]


def damaged(name: str, damage: Damage) -> Change:
    """Damage a file of the world.

    Args:
        name: where it lies in the directory of the world.
        damage: makes other bytes of its bytes.
    """

    def apply(directory: Path) -> None:
        path = directory / name
        path.write_bytes(damage(path.read_bytes()))

    return apply


def bit_flipped(at: float) -> Damage:
    """Flip a bit at a fraction of the length."""

    def damage(content: bytes) -> bytes:
        place = int(at * len(content))
        return content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :]

    return damage
