"""Runs the tests that may notice a mutant, each mutant in a forked process with a copy of the repository.

The libraries are imported once, before the fork: a trial then takes as long as its tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import coverage
import pytest
from mutants_drawing import Mutant, lines_run

from vaevar.errors import UserError

_LIBRARIES = (
    "hypothesis", "lightning", "matplotlib.figure", "onnx", "onnxruntime", "pandas", "rich.progress",
    "scipy.optimize", "scipy.spatial", "torch.utils.tensorboard", "torchmetrics", "xarray", "zarr",
)  # fmt: skip
_SETTLED = "tests/test_settled_numbers.py"
_PARTS = ("vaevar", "tests", "benchmarks", "configs", "docs", "weights")
_FILES = ("main.py", "pyproject.toml", "README.md", "CONTRIBUTING.md")


@dataclass(frozen=True)
class Trial:
    """Whether the tests noticed a mutant, the first that did, and how many were chosen."""

    noticed: bool
    by: str
    tests: int
    seconds: float


class Tests:
    """The tests of the repository, what each of them runs, and how long it takes.

    Args:
        root: the repository.
        record: a directory that keeps the coverage of each test. If it is empty, all tests but the slow ones
            are run once; empty it after a change of the package.

    Raises:
        UserError: when tests fail without any change.
    """

    def __init__(self, root: Path, record: Path) -> None:
        self.root, measured = root, record / "coverage"
        if not measured.is_file() or not any(record.glob("*.xml")):
            _measure(root, record)
        self._data = coverage.CoverageData(str(measured))
        self._data.read()
        self._seconds: dict[str, float] = {}
        for times in sorted(record.glob("*.xml")):
            for case in ET.parse(times).getroot().iter("testcase"):
                name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
                self._seconds[name] = float(case.get("time", 0))

    def of(self, mutant: Mutant, most_seconds: float) -> list[str]:
        """Tests that run the mutant's line, those of its own file first, then the fastest.

        Args:
            mutant: the change.
            most_seconds: that they take together without it; the rest is left out.
        """
        lines, at_import = lines_run((self.root / mutant.path).read_text(encoding="utf-8"), mutant.line)
        by_line = self._data.contexts_by_lineno(mutant.path)
        contexts = {context.partition("|")[0] for line in lines for context in by_line.get(line, ())}
        own = mutant.path.replace("vaevar/", "tests/", 1).rpartition("/")[0]

        def order(name: str) -> tuple[bool, float]:
            return not name.startswith(own), self._seconds[name]

        chosen, total = [], 0.0
        for name in sorted(contexts & self._seconds.keys(), key=order):
            total += self._seconds[name]
            if total > most_seconds and chosen:
                break
            chosen.append(name)
        # Constants and defaults are looked at without running what has them.
        return [*(name for name in self._seconds if at_import and name.startswith(_SETTLED)), *chosen]


def _measure(root: Path, record: Path) -> None:
    record.mkdir(parents=True, exist_ok=True)
    config = record / "coveragerc"
    config.write_text(
        f"[run]\nsource = vaevar\nrelative_files = true\ndata_file = {record / 'coverage'}\n",
        encoding="utf-8",
    )
    words = ["tests", "-q", "-m", "not slow", "--cov", f"--cov-config={config}", "--cov-context=test"]
    words += ["--cov-report=", f"--junitxml={record / 'tests.xml'}"]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=root, check=False)
    if done.returncode:
        (record / "tests.xml").unlink(missing_ok=True)
        raise UserError("tests fail without any change: mend them before you count mutants")


class Workshop:
    """A copy of the repository in which mutants are tried.

    Args:
        root: the repository.
        place: an empty directory for the copy.
    """

    def __init__(self, root: Path, place: Path) -> None:
        self.root, self.copy = root, place / "copy"
        self.copy.mkdir()
        self.log, self._sound = place / "log.txt", set[str]()
        for part in _PARTS:
            shutil.copytree(root / part, self.copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _FILES:
            shutil.copy(root / name, self.copy / name)
        for name in _LIBRARIES:
            __import__(name)

    def try_out(self, mutant: Mutant, tests: list[str], limit: float) -> Trial:
        """Run tests on a mutant until the first fails.

        Args:
            mutant: the change.
            tests: their names.
            limit: seconds; a mutant that takes longer is noticed, since it hangs.

        Raises:
            UserError: when the test that failed does so without the change too.
        """
        if not tests:
            return Trial(False, "no test runs it", 0, 0.0)
        target, began = self.copy / mutant.path, time.monotonic()
        target.write_text(mutant.source, encoding="utf-8")
        try:
            code = self._run(tests, limit)
        finally:
            shutil.copy(self.root / mutant.path, target)
        seconds = time.monotonic() - began
        if code is None:
            return Trial(True, f"took more than {limit:.0f} s", len(tests), seconds)
        by = self._first_failure() if code else ""
        if by in tests and by not in self._sound:
            if self._run([by], limit):
                raise UserError(f"{by} fails without any change: mend it before you count mutants")
            self._sound.add(by)
        return Trial(code != 0, by, len(tests), seconds)

    def _run(self, tests: list[str], limit: float) -> int | None:
        """The exit code of pytest; None: it took too long."""
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 70
            with contextlib.suppress(BaseException):
                os.setsid()
                code = self._in_child(tests)
            os._exit(code)
        ends = time.monotonic() + limit
        while time.monotonic() < ends:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None

    def _in_child(self, tests: list[str]) -> int:
        with open(self.log, "w", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        for name in [name for name in sys.modules if name.partition(".")[0] == "vaevar"]:
            del sys.modules[name]  # the program's own, from the repository
        # Files change within the second that compiled files are dated by.
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.copy)}
        os.chdir(self.copy)
        sys.path.insert(0, str(self.copy))
        return int(pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", *tests]))

    def _first_failure(self) -> str:
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("FAILED ", "ERROR ")):
                return line.split(" - ")[0].partition(" ")[2]
        return "the tests could not begin"
