"""The settings that a run's results depend on, as a flat table, and whether another table may go on with it.

The table has an entry for each setting, named as on the command line
(``model.init_args.arms.oi.init_args.length_km``). Classes are named without their modules, so that they may
move. A file stands for its content, wherever it lies. A class says more about its settings in class
attributes, all of them tuples of names:

``without_effect``
    They change speed or memory, not results, such as a number of threads. They are left out.
``may_grow``
    A run may go on with a larger value. With a smaller one there may be nothing left to do.
``independent``
    Mappings whose entries do not affect each other: a run may go on with more of them, or with fewer.
``outputs``
    Files that the run writes. They are compared by path.

Callbacks do not change results, as a rule. Those that do have ``without_effect``, if only an empty one.
"""

from __future__ import annotations

import pydoc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import (
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    WeightAveraging,
)

from vaevar.content.described import described
from vaevar.content.digest import same_content, sha256
from vaevar.content.setting import (
    ABSENT,
    changed,
    explained,
    is_less,
    is_unrecorded_code,
    recorded,
    recorded_code,
    shown,
    take_back,
    told_differences,
)
from vaevar.errors import UserError

SECTIONS = ("seed_everything", "model", "data", "optimizer", "lr_scheduler")
# Of the trainer, what changes results. How many devices share the work is the user's affair.
TRAINER: dict[str, tuple[str, ...]] = {
    "fit": (
        "precision", "max_epochs", "max_steps", "limit_train_batches", "overfit_batches",
        "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm",
    ),
}  # fmt: skip
OF_ANY_COMMAND = ("precision",)
GROWING = ("trainer.max_epochs", "trainer.max_steps")
LIGHTNINGS_CALLBACKS = (GradientAccumulationScheduler, StochasticWeightAveraging, WeightAveraging)
# The checkpoint of another run that a fit began from. It counts once: whoever goes on need not give it.
ORIGIN = "ckpt_path"


@dataclass(frozen=True)
class Settings:
    """What a run is made of.

    Attributes:
        values: by name. A file is ``{"file": path, "sha256": digest}``.
        growing: names of those that may grow.
        independent: prefixes of names (``model.init_args.arms.``) whose entries do not affect each other.
        outputs: files that the run writes, by the name of the setting.
        left: asked when the run has ended: the values of its objects then. Empty: they are made anew.
    """

    values: dict[str, Any]
    growing: set[str] = field(default_factory=set)
    independent: set[str] = field(default_factory=set)
    outputs: dict[str, Path] = field(default_factory=dict)
    left: Callable[[], dict[str, Any]] = dict

    def before(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the run that is there, for a comparison with these.

        What changes in an object while it runs, such as a memory of its own, is as that run has left it when
        the same object runs again. It counts as what it was at the beginning.

        Args:
            record: of that run.
        """
        values: dict[str, Any] = record["settings"] | self.repaired(record)
        take_back(self.values, values, record.get("left", {}))
        return values

    def changed(self) -> dict[str, Any]:
        """What has another value after the run than at its beginning, with that value."""
        return changed(self.values, self.left)

    def united(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """The values, what the run began from, and independent entries that only an earlier run had."""
        mine = self._entries(self.values)
        kept = {
            name: value
            for name, value in before.items()
            if name == ORIGIN or self._entry(name) not in (None, *mine)
        }
        return self.values | kept

    def with_files(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, where what names a file by now that was made since stands for its content."""
        return {
            name: recorded(value) if name not in self.outputs else value for name, value in values.items()
        }

    def written(self) -> dict[str, str]:
        """Checksums of the files that the run has written, by path."""
        return {str(path): sha256(path) for path in self.outputs.values() if path.is_file()}

    def check_written(self, record: Mapping[str, Any]) -> None:
        """Refuse to call a run done whose result another one has replaced.

        Args:
            record: of the run.

        Raises:
            UserError: when a file is not what the run has written.
        """
        before = record.get("files", {})
        for path, digest in self.written().items():
            if before.get(path, digest) != digest:
                raise UserError(
                    f"{path}: is no longer what this fit has written, which may lie beside it; give the fit "
                    "another path, or make it again with --restart"
                )

    def differences(self, before: Mapping[str, Any]) -> list[str]:
        """What keeps a run with these settings from going on with one that had others.

        Args:
            before: values of the run that is there.

        Returns:
            A text per setting, with both values.
        """
        common = self._entries(before) & self._entries(self.values)
        found = {}
        for name in dict.fromkeys((*before, *self.values)):
            if name == ORIGIN or (name not in before and is_unrecorded_code(name, before)):
                continue
            there, now = before.get(name, ABSENT), self.values.get(name, ABSENT)
            if self._entry(name) in (None, *common) and not self._may_follow(name, there, now):
                found[name] = there, now
        return told_differences(found)

    def refusal(self, before: Mapping[str, Any]) -> str:
        """Why a run with these settings may not go on with one that had others; empty if it may.

        Args:
            before: values of the run that is there.
        """
        commands = [str(values.get("command")) for values in (before, self.values)]
        python = FROM_PYTHON in commands
        there, now = (_kind(command, python) for command in commands)
        if there != now:
            return f"holds {there}, this is {now}"
        models = [values.get(MODEL, ABSENT) for values in (before, self.values)]
        if models[0] != models[1]:
            return f"holds {there} of {models[0]}, this is {now} of {models[1]}"
        given, began = self.values.get(ORIGIN), before.get(ORIGIN)
        if given is not None and not self._may_follow(ORIGIN, began, given):
            return (
                f"holds a fit that began {f'from {shown(began)}' if began else 'without --ckpt_path'}, now "
                f"--ckpt_path is {shown(given)}; leave it out, and the fit goes on"
            )
        differences = self.differences(before)
        return f"holds another experiment: {explained(differences)}" if differences else ""

    def repaired(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Files and stores that a run stopped because of, and that have changed since: it goes on with them.

        Args:
            record: of the run that is there; ``fault`` is why it stopped, and begins with the file's name.

        Returns:
            Their settings, as they are now; each is told.
        """
        found = {}
        for name, there in record["settings"].items():
            now = self.values.get(name)
            if not (isinstance(there, dict) and isinstance(now, dict)) or there["file"] != now["file"]:
                continue
            blamed = str(record.get("fault", "")).startswith(f"{there['file']}:")
            if blamed and not same_content(there, now):
                print(
                    f"{now['file']}: has changed since the run stopped because of it; the run goes on with it"
                )
                found[name] = now
        return found

    def grown(self, before: Mapping[str, Any]) -> bool:
        """Whether a setting is larger than in ``before``."""
        return any(name in before and is_less(before[name], self.values[name]) for name in self.growing)

    def shrunk(self, before: Mapping[str, Any]) -> bool:
        """Whether a setting that may grow is smaller than in ``before``."""
        return any(name in before and is_less(self.values[name], before[name]) for name in self.growing)

    def _entries(self, values: Mapping[str, Any]) -> set[str]:
        return {entry for name in values if (entry := self._entry(name))}

    def _entry(self, name: str) -> str | None:
        """``model.init_args.arms.oi`` for all settings of that arm; None for settings of the whole run."""
        for prefix in self.independent:
            if name.startswith(prefix):
                return prefix + name.removeprefix(prefix).partition(".")[0]
        return None

    def _may_follow(self, name: str, before: Any, now: Any) -> bool:
        if isinstance(before, dict) and isinstance(now, dict):
            return same_content(before, now)
        if isinstance(now, dict):  # a file that was made since
            return bool(before == now.get("file"))
        if name in self.growing and ABSENT not in (before, now):
            return True
        return bool(before == now)


def settings_of(config: Mapping[str, Any], command: str) -> Settings:
    """The settings that the results of a command depend on; files that they name are read.

    Args:
        config: the resolved config of a subcommand.
        command: the subcommand.
    """
    settings = Settings({"command": command})
    for section in SECTIONS:
        if config.get(section) is not None:
            _add(settings, section, config[section])
    trainer = config.get("trainer") or {}
    for name in TRAINER.get(command, OF_ANY_COMMAND):
        settings.values[f"trainer.{name}"] = trainer.get(name)
    settings.growing.update(name for name in GROWING if name in settings.values)
    if config.get(ORIGIN) is not None:
        settings.values[ORIGIN] = recorded(config[ORIGIN])
    callbacks = trainer.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        cls = pydoc.locate(callback["class_path"])
        if changes_results(cls):
            _add(settings, f"trainer.callbacks.{callback['class_path'].rpartition('.')[2]}", callback)
        for name in getattr(cls, "outputs", ()):
            settings.outputs[f"{callback['class_path']}.{name}"] = Path(callback["init_args"][name])
    return settings


def settings_of_objects(
    command: str, objects: Mapping[str, Any], growing: set[str], independent: set[str]
) -> Settings:
    """The settings of objects that no config has made.

    Args:
        command: what is done with them.
        objects: by name.
        growing, independent: as the attributes of :class:`Settings`.
    """
    values = {"command": command} | _values_of(objects)
    return Settings(values, growing, independent, left=lambda: {"command": command} | _values_of(objects))


def _values_of(objects: Mapping[str, Any]) -> dict[str, Any]:
    table = {name: value for key, item in objects.items() for name, value in described(item, key).items()}
    return {name: recorded(value) for name, value in table.items()}


def _kind(command: str, either: bool) -> str:
    """What a command makes; where one of two runs is from Python, with where the other is from."""
    if command == FROM_PYTHON:
        return "a cycle from Python"
    return f"a {command}{' of the command line' if either else ''}"


def files_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Checksums of the files and stores among some values, by path."""
    return {value["file"]: value["sha256"] for value in values.values() if isinstance(value, dict)}


MODEL = "model.class_path"
# The command of a cycle that no command line began.
FROM_PYTHON = "run"


def _add(settings: Settings, name: str, value: Any) -> None:
    if isinstance(value, dict) and value:
        cls = pydoc.locate(str(value["class_path"])) if "class_path" in value else None
        for key, item in value.items():
            if key == "class_path":
                said = {f"{name}.class_path": str(item).rpartition(".")[2]}
                settings.values.update(said | recorded_code(name, item))
            elif key == "init_args" and isinstance(item, dict):
                _add_arguments(settings, f"{name}.init_args", item, cls)
            else:
                _add(settings, f"{name}.{key}", item)
    elif isinstance(value, list | tuple) and value:
        for index, item in enumerate(value):
            _add(settings, f"{name}.{index}", item)
    else:
        # Among the values, a mapping is a file.
        plain = list(value) if isinstance(value, tuple) else "{}" if value == {} else value
        settings.values.update({name: recorded(plain)} | recorded_code(name, plain))


def _add_arguments(settings: Settings, name: str, arguments: Mapping[str, Any], cls: object) -> None:
    for key, value in arguments.items():
        full = f"{name}.{key}"
        if key in getattr(cls, "without_effect", ()):
            continue
        if key in getattr(cls, "outputs", ()):
            settings.outputs[full] = Path(value)
            settings.values[full] = value
            continue
        if key in getattr(cls, "may_grow", ()):
            settings.growing.add(full)
        if key in getattr(cls, "independent", ()):
            settings.independent.add(f"{full}.")
        _add(settings, full, value)


def changes_results(cls: object) -> bool:
    """Whether a callback of this class does, unlike most."""
    return hasattr(cls, "without_effect") or (isinstance(cls, type) and issubclass(cls, LIGHTNINGS_CALLBACKS))
