"""LightningCLI with one-line errors and a run directory that says how it came about."""

from __future__ import annotations

import sys

from lightning.pytorch.cli import LightningCLI

from vaevar.errors import UserError


def main(args: list[str] | None = None) -> None:
    """Parse the command line and run it; a user's mistake is one line and exit code 2."""
    try:
        LightningCLI(
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            args=args,
            auto_configure_optimizers=False,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
