"""Whether a model that is made by its settings is one for the states of its data."""

from __future__ import annotations

from typing import Any

from vaevar.errors import UserError
from vaevar.mistakes.words import setting
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec, difference


def require_states_of_data(model: Any, data: Any) -> None:
    """Check that channels and grid of a model, which its settings say, are those of its data.

    Args:
        model: its ``hparams`` have ``surface``, ``upper``, ``levels``, ``gaussian``, and either ``nlat`` and
            ``nlon`` or ``rows`` and ``columns``.
        data: a data module, set up.

    Raises:
        UserError: when they are not; it names the settings.
    """
    if model.spec == data.spec and model.grid == data.grid:
        return
    rows, columns = ("nlat", "nlon") if "nlat" in model.hparams else ("rows", "columns")
    mine = _settings(model.spec, model.grid, rows, columns)
    there = _settings(data.spec, data.grid, rows, columns)
    differing = [
        f"{setting(f'model.init_args.{name}')} is {value}, that of the data {there[name]}"
        for name, value in mine.items()
        if value != there[name]
    ]
    found = "; ".join(differing) or difference(model.spec, model.grid, data.spec, data.grid)
    name, source = type(model).__name__, getattr(data, "path", "its data")
    raise UserError(f"{name}: is for other states than those of {source}: {found}; make them agree")


def set_up(data: Any) -> None:
    """Prepare a data module for a fit, as a trainer would, unless that has been done."""
    if not hasattr(data, "grid"):
        data.prepare_data()
        data.setup("fit")


def settings_for(data: Any) -> dict[str, Any]:
    """The settings of a model for the states of a data module, which is set up if it is not yet.

    Raises:
        UserError: when its grid is of no family.
    """
    set_up(data)
    spec, (rows, columns), family = data.spec, data.grid.shape, data.grid.family
    if not family:
        raise UserError(
            f"{data.grid} is neither Gaussian nor equiangular: interpolate the data to one that is"
        )
    return {
        "nlat": rows,
        "nlon": columns,
        "gaussian": {"gaussian": True, "equiangular": False}.get(family, family),
        "surface": spec.surface,
        "upper": spec.upper,
        "levels": spec.levels,
    }


def _settings(spec: StateSpec, grid: Grid, rows: str, columns: str) -> dict[str, str]:
    """The settings of a model, as they are written, that would give these channels and this grid."""
    families = {"gaussian": "true", "equiangular": "false", "": "none of the choices"}
    lists = {"surface": spec.surface, "upper": spec.upper, "levels": spec.levels}
    return {
        rows: str(grid.shape[0]),
        columns: str(grid.shape[1]),
        "gaussian": families.get(grid.family, grid.family),
        **{name: f"[{', '.join(map(str, values))}]" for name, values in lists.items()},
    }
