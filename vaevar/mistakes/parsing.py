"""What the parser, or a class that it makes, refuses: the setting, what was found and what to do."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException

from vaevar.errors import UserError, one_line
from vaevar.mistakes.place import Place, causes, place_of
from vaevar.mistakes.wording import class_in, object_text, type_text, value_text
from vaevar.short_names import nearest_classes

_PARSER = Path(jsonargparse.__file__).parent
_UNKNOWN = re.compile(r"(?:Option|Group .* accept option) '([^']+)'")
_UNKNOWN_TO_COMMAND = re.compile(r"Subcommand '(\w+)' does not accept option '([^']+)'")
_NO_OPTION = re.compile(r"unrecognized arguments: (.+)")
_MISSING = re.compile(r"the following arguments are required: (.+)")
_NO_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':\s*(.*)", re.DOTALL)
_OTHER_KIND = re.compile(r"Import path (\S+) does not \w+ (?:to a subclass of|protocol) (\S+)")
_ABSTRACT = re.compile(r"Expected an instantiatable class, but (\S+) is (\w+)")
_NO_OBJECT = re.compile(r"Not a valid subclass of|Does not implement protocol")
_WRONG_TYPE = re.compile(r"Expected an? |Does not validate against")
_NO_FILE = re.compile(r"(?:File does not exist|Path is not a file|Path does not exist): '?([^']+)'?")
_YAML_HINTS = {
    "'\\t'": "indent with spaces, not tabs",
    "mapping values": "check the indentation, and quote texts with a colon",
}
# Their messages say enough.
_PLAIN = (ValueError, TypeError, ImportError, OSError, MisconfigurationException)
# In our own classes these are faults of the program.
_OURS = (KeyError, IndexError, AttributeError, AssertionError, NameError)


def refusal_of_parser(error: BaseException) -> str | None:
    """One line for what the parser refused, or the constructor of a class that it was making.

    Args:
        error: as it came out of the parser.

    Returns:
        None for an error that is neither.
    """
    chain = list(causes(error))
    place = place_of(error)
    if place.constructing:
        return _of_constructor(place, chain[-1])
    for cause in reversed(chain):
        if isinstance(cause, yaml.YAMLError):
            return f"{place.file or 'the config'}: cannot be read as YAML: {yaml_fault(cause)}"
        if isinstance(cause, UnicodeDecodeError) and place.file is not None:
            return f"{place.file}: is no text in UTF-8 (byte {cause.start}), so no config; give a YAML file"
    told = [cause for cause in reversed(chain) if _of_parser(cause)]
    if not told:
        return None
    # What a missing class raised says less than the error that names the class.
    line = _line(place, next((cause for cause in told[:3] if _NO_CLASS.search(str(cause))), told[0]))
    return f"{place.file}: {line}" if place.file and not line.startswith(str(place.file)) else line


def with_place(mistake: UserError, error: BaseException) -> UserError:
    """A mistake that a constructor names, with the place in the config of what was being made.

    Args:
        mistake: what the constructor raised.
        error: as it came out of the parser.
    """
    place, said = place_of(error), str(mistake)
    # Some constructors name the place themselves.
    if not place.constructing or not place.keys or re.match(rf"{place.name.partition('.')[0]}\b[.:]", said):
        return mistake
    name = place.cls.__name__ if place.cls is not None else ""
    return UserError(f"{_object(place)}: {said.removeprefix(f'{name}: ')}")


def yaml_fault(error: yaml.YAMLError) -> str:
    """What is wrong with a text, and where, such as ``line 4, column 1: ...``."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    hint = next((f"; {hint}" for sign, hint in _YAML_HINTS.items() if sign in problem), "")
    return f"{where}{problem}{hint}"


def _of_parser(error: BaseException) -> bool:
    if isinstance(error, ArgumentError):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and Path(frames[-1].f_code.co_filename).is_relative_to(_PARSER)


def _of_constructor(place: Place, error: BaseException) -> str | None:
    cls = place.cls
    ours = cls is not None and cls.__module__.partition(".")[0] == "vaevar"
    if not isinstance(error, Exception) or (ours and isinstance(error, _OURS)):
        return None
    kind = "" if isinstance(error, _PLAIN) else f" ({type(error).__name__}; VAEVAR_TRACEBACK=1 shows where)"
    return f"{_object(place)} cannot be made: {one_line(error)}{kind}"


def _object(place: Place) -> str:
    """What was being made, after its place: ``model.init_args.arms.free: FreeRun``."""
    # The command completes the list of callbacks, so numbers in it are not those of the config.
    where = re.sub(r"^(trainer\.callbacks)\.\d+", r"\1", place.name.removesuffix(".init_args"))
    name = place.cls.__name__ if place.cls is not None else "an object"
    return f"{where}: {name}" if where else name


def _line(place: Place, error: BaseException) -> str:
    text = str(error)
    where = f"{place.name}: " if place.name else ""
    if match := _UNKNOWN_TO_COMMAND.search(text):
        return _unknown_to_command(place, error, *match.groups())
    if match := _UNKNOWN.search(text):
        return _unknown(place, match[1])
    if match := _NO_OPTION.search(text):
        return _no_option(match[1])
    if match := _MISSING.search(text):
        return _missing(place, match[1])
    if match := _NO_FILE.search(text):
        what = "is a directory, where a file is expected" if Path(match[1]).is_dir() else "no such file"
        return f"{match[1]}: {what}; give the path of a config, such as configs/cycle_sparse.yaml"
    if text.startswith("Unexpected config"):
        return f"{place.file or 'the config'}: not a config: it has no sections such as model and data"
    if match := _NO_CLASS.search(text):
        return f"{where}{_no_class(place, *match.groups())}"
    if match := _OTHER_KIND.search(text):
        return f"{where}{match[1]} is no {match[2]}, which is expected here"
    if match := _ABSTRACT.search(text):
        return f"{where}{match[1]} is {match[2]}; name one of its subclasses"
    if _NO_OBJECT.search(text):
        kind = class_in(place.expected)
        expected = f"the name of {object_text(kind)}, or class_path and init_args," if kind else "a class"
        return f"{where}{value_text(place.value)} is given, {expected} is expected"
    if place.given and place.expected is not None and _WRONG_TYPE.search(text):
        return f"{where}{value_text(place.value)} is given, {type_text(place.expected)} is expected"
    return f"{where}{_shortened(text)}"


def _unknown_to_command(place: Place, error: BaseException, command: str, key: str) -> str:
    parsers = place.parser._subcommands_action._name_parser_map if place.parser else {}
    others = [name for name, parser in parsers.items() if name != command and key in _settings(parser)]
    if others:
        names = " and ".join(others) if len(others) < 3 else f"{', '.join(others[:-1])} and {others[-1]}"
        return f"{key} is a setting of {names}, not of {command}; is this a config for `{others[0]}`?"
    known = _settings(getattr(error, "subcommand_parser", None) or parsers.get(command))
    return f"{key}: {command} has no such setting{_nearest(key, known)}"


def _unknown(place: Place, key: str) -> str:
    known = _settings(place.parser)
    name = place.cls.__name__ if place.cls else "it"
    full = place.option or (f"{place.name}.{key}" if place.keys else key)
    listed = f"; it has {', '.join(known)}" if place.cls and 0 < len(known) <= 20 else ""
    return f"{full}: {name} has no setting {key}{_nearest(key, known) or listed}"


def _no_option(words: str) -> str:
    first = words.partition(" ")[0]
    if first.endswith((".yaml", ".yml")):
        return f"{words}: a config is given with --config {first}"
    return f"{words}: no such option"


def _missing(place: Place, names: str) -> str:
    name = place.cls.__name__ if place.cls else ""
    if not name:
        command, _, section = names.partition(".")
        example = "configs/cycle_sparse.yaml" if command == "predict" else "configs/vae.yaml"
        return f"no {section or names} is given: give a config that has it, such as --config {example}"
    return f"{place.name}: {name} needs {names}"


def _no_class(place: Place, path: str, why: str) -> str:
    module, _, name = path.rpartition(".")
    if name in ("yaml", "yml"):
        return f"{path}: no such file; the path of a part starts at the config that names it"
    missing = re.search(r"No module named '([\w.]+)'", why)
    if missing and not f"{module}.".startswith(f"{missing[1]}."):
        return f"{path} needs the package {missing[1].partition('.')[0]}, which is not installed"
    kind = class_in(place.expected)
    nearest = nearest_classes(name, kind) if kind else []
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "give its full path"
    return f"there is no class {path}; {hint}"


def _settings(parser: Any) -> list[str]:
    """Names of the settings of a parser; those below them are theirs."""
    hidden = ("help", "config", "print_config", "print_shtab")
    actions = getattr(parser, "_actions", [])
    return [action.dest for action in actions if action.dest not in hidden and "help" not in action.dest]


def _nearest(key: str, known: Iterable[str]) -> str:
    """What was meant; also where a setting of another section has the name."""
    names = list(known)
    last = key.rpartition(".")[2]
    same = [name for name in names if name.rpartition(".")[2] == last]
    found = same or difflib.get_close_matches(key, names, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(found[:2])}?" if found else ""


def _shortened(text: str, longest: int = 300) -> str:
    plain = re.sub(r"^Parser key \"[\w.]+\":\s*", "", " ".join(text.split()))
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."
