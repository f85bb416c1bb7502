"""What ``main.py``, the modules run with ``python -m`` and the programs of benchmarks/ share."""

from __future__ import annotations

import locale
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, auto_cli

from vaevar.errors import UserError, fault_of
from vaevar.mistakes.notices import warnings_kept
from vaevar.mistakes.parsing import refusal_of_parser, with_place, yaml_fault
from vaevar.mistakes.place import causes
from vaevar.mistakes.trainer import refusal_of_machine, refusal_of_trainer
from vaevar.mistakes.words import words_of_commands
from vaevar.runs import stopping
from vaevar.runs.expansion import expand_arguments, expand_paths
from vaevar.short_names import accept_short_names, misspelt, refuse_repeated_keys, resolve_names


def read_contents(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Contents of config files, in their order. Part files that they name get absolute paths.

    Raises:
        UserError: for a file that is missing or not a config.
    """
    return [_read(Path(path)) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        refuse_repeated_keys(text)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: cannot be read as a config ({yaml_fault(error)})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a config ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a config: it has no sections such as model and data")
    return _with_absolute_parts(expand_paths(content), path.parent)


def _with_absolute_parts(content: Any, directory: Path) -> Any:
    """The parser would look for part files in the current directory, since it is not given the config's."""
    if isinstance(content, dict):
        return {key: _with_absolute_parts(value, directory) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_absolute_parts(value, directory) for value in content]
    if isinstance(content, str) and content.endswith(".yaml") and (directory / content).is_file():
        return str((directory / content).absolute())
    return content


def instantiate(contents: Iterable[Mapping[str, Any]], **kinds: type) -> Namespace:
    """Objects of sections of configs; later ones win, as on the command line.

    Args:
        contents: of config files, and settings in their form.
        kinds: the base class of each section, such as ``model=VAE``; other sections are left out.

    Raises:
        ArgumentError: for settings that do not fit the classes they name.
    """
    accept_short_names()
    parser = ArgumentParser(exit_on_error=False)
    for name, kind in kinds.items():
        parser.add_subclass_arguments(kind, name)
    settings = parser.get_defaults()
    for content in contents:
        sections = {name: resolve_names(content[name]) for name in kinds if name in content}
        settings = parser.parse_object(sections, namespace=settings)
    return parser.instantiate(settings)


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode if the locale has another encoding.

    Configs hold λ, σ and °, and libraries read and write text in the encoding of the locale.
    """
    if sys.flags.utf8_mode or locale.getencoding().lower() in ("utf-8", "utf8", "cp65001"):
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run(function: Callable[..., Any], args: list[str] | None = None) -> None:
    """Call a function with the options of the command line.

    Args:
        function: its parameters are the options.
        args: instead of the command line.
    """
    if args is None:
        use_utf8()
        tell_faults_of_threads()
        stopping.install()
    accept_short_names()
    with warnings_kept(), one_line_errors():
        auto_cli(function, as_positional=False, args=expand_arguments(args), exit_on_error=False)


def tell_faults_of_threads() -> None:
    """One line, once, for faults that a library meets beside the program: TensorBoard writes in a thread."""
    told = set()

    def tell(error: BaseException | None) -> bool:
        fault = fault_of(error) if isinstance(error, OSError) else None
        if fault is not None and str(fault) not in told:
            told.add(str(fault))
            print(f"error: {fault}", file=sys.stderr)
        return fault is not None

    def in_thread(args: threading.ExceptHookArgs, otherwise: Any = threading.excepthook) -> None:
        if not tell(args.exc_value):
            otherwise(args)

    def at_the_end(args: Any, otherwise: Any = sys.unraisablehook) -> None:
        if not tell(args.exc_value):
            otherwise(args)

    threading.excepthook, sys.unraisablehook = in_thread, at_the_end


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake is one line and exit code 2; any other error goes through.

    With ``VAEVAR_TRACEBACK`` in the environment all go through: what looks like a user's may be ours.
    """
    with words_of_commands():
        try:
            yield
        except Exception as error:
            mistake = misspelt(error) or mistake_of(error)
            if mistake is not None:
                print(f"error: {' '.join(str(mistake).split())}", file=sys.stderr)
            if signal := stopping.asked():
                # A library, or a process that has stopped already, made this error of the stop.
                stopping.stop(signal)
            if mistake is None and isinstance(error, OSError):
                stopping.end_if_nobody_reads()
            if mistake is None or os.environ.get("VAEVAR_TRACEBACK"):
                raise
            raise SystemExit(2) from None


def mistake_of(error: BaseException | None) -> Exception | None:
    """The user's mistake or the fault of the environment behind an error, if that is what it was.

    The parser wraps what a constructor raises in errors of its own; the innermost says it plainly. What
    Lightning itself refuses is a mistake too, in a config or in how a cluster's job was started.
    """
    refused: str | None = None
    for cause in causes(error):
        if isinstance(cause, UserError):
            return with_place(cause, error) if error is not None else cause
        if isinstance(cause, OSError) and (fault := fault_of(cause)):
            return fault
        refused = refused or refusal_of_machine(cause) or refusal_of_trainer(cause)
    line = (refusal_of_parser(error) if error is not None else None) or refused
    return None if line is None else UserError(line)
