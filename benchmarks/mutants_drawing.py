"""Draws small changes of the scientific code, one each, with the operators of Cosmic Ray and one more."""

from __future__ import annotations

import ast
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator, operator_names

AREAS: dict[str, tuple[str, ...]] = {
    "cost": ("assim/cost.py", "assim/minimiser.py", "assim/variational.py", "assim/adaptive_lambda.py"),
    "operator": (
        "data/observations/operator.py", "data/observations/interpolation.py",
        "data/observations/wind_speed.py", "sphere/interpolation.py", "sphere/grid.py",
    ),
    "controls": ("assim/control/*.py",),
    "covariance": (
        "models/covariance/transform.py", "models/covariance/local.py", "models/covariance/statistics.py",
        "models/covariance/estimation.py", "models/covariance/calibration.py",
    ),
    "balance": ("models/covariance/balance.py", "sphere/wind.py", "sphere/harmonics.py"),
    "VAE": (
        "models/vae/vae.py", "models/vae/divergence.py", "models/vae/network.py", "models/nn/*.py",
        "models/spectral/*.py",
    ),
    "diffusion": ("models/diffusion/*.py", "assim/diffda/*.py"),
    "observations": (
        "data/observations/points.py", "data/observations/networks.py", "data/observations/errors.py",
        "data/observations/simulate.py", "data/observations/coverage.py", "assim/interpolation/*.py",
    ),
    "stores": (
        "data/weather/store.py", "data/weather/writer.py", "data/weather/holes.py",
        "data/weather/climatology.py", "data/weather/sigma_levels.py", "state/*.py", "normalizer.py",
    ),
    "samples": (
        "data/samples/nmc.py", "data/samples/rollouts.py", "data/samples/rollout_errors.py",
        "data/samples/forecast_errors.py", "data/samples/background_errors.py", "data/sequences.py",
        "batch_random.py",
    ),
    "scores": (
        "verification/scores.py", "verification/metrics.py", "verification/consistency.py",
        "verification/forecasts.py",
    ),
    "cycle": (
        "assim/cycle/cycle.py", "assim/cycle/standing.py", "assim/cycle/loop.py", "assim/cycle/module.py",
        "assim/cycle/restart.py", "assim/cycle/faults.py",
        "assim/cycle/error_recorder.py", "assim/cycle/writer.py", "data/analysis_times.py", "data/times.py",
    ),
}  # fmt: skip
# Changes that arithmetic of arrays takes as it takes the original; others raise at once.
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "FloorDiv")
_LEFT_OUT = ("RemoveDecorator", "VariableInserter", "VariableReplacer")  # the last two need arguments


class DropCall(Operator):
    """``x.clip(0)`` becomes ``x``, ``np.sqrt(x)`` becomes ``(x)``: no bounds, signs, orders, functions."""

    METHODS = frozenset(
        (
            "abs", "clamp", "clamp_min", "clamp_max", "clip", "cumsum", "double", "exp", "expand", "flip",
            "float", "log", "mean", "permute", "roll", "round", "sqrt", "square", "tanh", "transpose",
        )
    )  # fmt: skip
    FUNCTIONS = frozenset(
        (
            "abs", "arcsin", "cos", "cumsum", "degrees", "exp", "log", "log1p", "radians", "sin", "sqrt",
            "square", "tanh",
        )
    )  # fmt: skip

    def mutation_positions(self, node):  # type: ignore[no-untyped-def]
        parts = getattr(node, "children", [])
        return [(parts[place].start_pos, parts[place + 1].end_pos) for place in self._calls(node)]

    def mutate(self, node, index):  # type: ignore[no-untyped-def]
        place = self._calls(node)[index]
        of, call = node.children[place - 1], node.children[place + 1]
        if self._is_module(of):
            call.children[0].prefix = of.prefix
            del node.children[place - 1 : place + 1]
        else:
            del node.children[place : place + 2]
        return node

    def _calls(self, node):  # type: ignore[no-untyped-def]
        """Positions of ``.name`` among the parts of ``x.name(...)`` that can be left out."""
        if node.type not in ("atom_expr", "power"):
            return []
        parts, found = node.children, []
        for place in range(1, len(parts) - 1):
            name, call = parts[place], parts[place + 1]
            if name.type == call.type == "trailer" and (name.children[0].value, call.children[0].value) == (
                ".",
                "(",
            ):
                known = self.FUNCTIONS if self._is_module(parts[place - 1]) else self.METHODS
                if name.children[1].value in known:
                    found.append(place)
        return found

    @staticmethod
    def _is_module(node):  # type: ignore[no-untyped-def]
        return getattr(node, "value", "") in ("np", "torch", "math")

    @classmethod
    def examples(cls):  # type: ignore[no-untyped-def]
        return (Example("y = x.clip(0)", "y = x"), Example("y = np.sqrt(x)", "y = (x)"))


@dataclass(frozen=True)
class Mutant:
    """One small change.

    Attributes:
        area: which of :data:`AREAS`.
        path: of the changed file, relative to the repository.
        line: where.
        before, after: the text of the changed lines.
        source: the whole file, changed.
    """

    area: str
    path: str
    line: int
    before: str
    after: str
    source: str


def draw(root: Path, count: int, seed: int) -> list[Mutant]:
    """``count`` different mutants, as many of each area; the same ones for a seed and the same files."""
    chance, drawn = random.Random(seed), {}
    places = {
        area: [(path, *place) for path in _files(root, area) for place in _places(path)] for area in AREAS
    }
    for area in itertools.cycle(AREAS):
        while len(drawn) < count:
            # First a place, then one of the changes there, else the many of binary operators prevail.
            path, _, changes = chance.choice(places[area])
            mutant = _change(root, area, path, *chance.choice(changes))
            if mutant is not None and mutant.source not in drawn:
                drawn[mutant.source] = mutant
                break
        else:
            return list(drawn.values())
    raise AssertionError


def _files(root: Path, area: str) -> list[Path]:
    return [path for pattern in AREAS[area] for path in sorted((root / "vaevar").glob(pattern))]


@cache
def _operators() -> dict[str, Operator]:
    chosen: dict[str, Operator] = {"DropCall": DropCall()}
    for name in sorted(operator_names()):
        kind = name.removeprefix("core/").split("_")
        if kind[0] in _LEFT_OUT:
            continue
        if kind[0] == "ReplaceBinaryOperator" and (kind[1] in _ARITHMETIC) != (kind[2] in _ARITHMETIC):
            continue
        chosen[name] = get_operator(name)()
    return chosen


class _Finder(Visitor):
    """Where operators can change a file: position -> (name of the operator, its occurrence)."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int], list[tuple[str, int]]] = {}
        self._counts = dict.fromkeys(_operators(), 0)

    def visit(self, node):  # type: ignore[no-untyped-def]
        for name, operator in _operators().items():
            for position in operator.mutation_positions(node):
                self.found.setdefault(position[0], []).append((name, self._counts[name]))
                self._counts[name] += 1
        return node


def _places(path: Path) -> Iterator[tuple[tuple[int, int], list[tuple[str, int]]]]:
    finder = _Finder()
    finder.walk(get_ast(path.read_text(encoding="utf-8")))
    yield from sorted(finder.found.items())


def _change(root: Path, area: str, path: Path, operator: str, occurrence: int) -> Mutant | None:
    """The mutant, or None if it means the same or is no program."""
    source = path.read_text(encoding="utf-8")
    try:
        changed = mutate_code(source, _operators()[operator], occurrence)
        if changed is None or _meaning(changed) == _meaning(source):
            return None
    except SyntaxError:
        return None
    old, new = source.splitlines(), changed.splitlines()
    first = next(n for n, (a, b) in enumerate(itertools.zip_longest(old, new)) if a != b)
    left = len(old) - first - 1
    last = next((n for n in range(left + 1) if old[-1 - n] != new[-1 - n]), left)
    before, after = old[first : len(old) - last], new[first : len(new) - last]
    name = path.relative_to(root).as_posix()
    return Mutant(area, name, first + 1, _one_line(before), _one_line(after), changed)


def _one_line(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


class _Meaning(ast.NodeTransformer):
    """Takes out annotations and the texts of errors."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise()


def _meaning(source: str) -> str:
    return ast.dump(_Meaning().visit(ast.parse(source)))


def lines_run(source: str, line: int) -> tuple[range, bool]:
    """The lines whose tests may notice a change of a line, and whether it runs when the file is imported.

    They are those of the statement around it, without its body. For a line that runs at the import, they are
    those of the function that it heads, or else of the whole file.
    """
    found, whole = range(line, line + 1), range(1, source.count("\n") + 2)
    inside = False
    for node in ast.walk(ast.parse(source)):  # outer statements come first
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or node.lineno):
            continue
        parts = [getattr(node, name, None) for name in ("body", "orelse", "handlers", "finalbody")]
        first = min((part[0].lineno for part in parts if part), default=(node.end_lineno or node.lineno) + 1)
        if isinstance(node, ast.FunctionDef):
            inside = line >= first
            found = range(first, (node.end_lineno or first) + 1)
        elif not isinstance(node, ast.ClassDef) and line < max(first, node.lineno + 1) and inside:
            found = range(node.lineno, max(first, node.lineno + 1))
    return found if inside or len(found) > 1 else whole, not inside
