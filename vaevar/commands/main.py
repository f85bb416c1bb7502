"""The command ``vaevar``, which is also ``python main.py``."""

from __future__ import annotations

import sys

from vaevar.runs.stopping import install

_HELP = """\
usage: vaevar COMMAND ...

  vaevar init DIR                    copy the configs to DIR, to begin there
  vaevar predict --config FILE       run a cycle, an experiment, or forecasts that samples are made of
  vaevar fit --config FILE           train a network, or calibrate a B
  vaevar validate | test             judge a network on data of its config
  vaevar COMMAND --help              all that a command takes

A later --config wins over an earlier one, and an option over both:

  vaevar predict --config configs/quick.yaml --config my.yaml --name my_run --data.init_args.analyses 8

Each run writes to runs/NAME; the same command again goes on where the last one stopped, and
`python -m vaevar.verification.report runs/NAME` shows it in pictures. `python main.py` in a clone of the
repository is the same program."""


def main() -> None:
    """Run the command of this process's command line; what a command needs is imported for it alone."""
    install(importing=True)  # which takes seconds
    words = sys.argv[1:]
    match words[:1]:
        case [] | ["-h" | "--help" | "help"]:
            print(_HELP)
        case ["--version"]:
            from vaevar import __version__

            print(f"vaevar {__version__}")
        case ["init"]:
            from vaevar.commands.init import main as init

            init(words[1:])
        case _:
            from vaevar.cli import main as run

            run()
