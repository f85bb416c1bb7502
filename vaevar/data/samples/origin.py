"""What samples were made of, by content: a recipe names its source and forecaster, which may be replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vaevar.content.digest import content_digest, is_store
from vaevar.content.zarr_store import StoreContent
from vaevar.data.samples.rollout_errors import RolloutErrors
from vaevar.errors import UserError

# Attributes of a store of samples, and what they are digests of.
SOURCE, NORMALISATION = "source_content", "forecaster_normalisation"


def origin(errors: RolloutErrors) -> dict[str, str]:
    """Digests of the states of the period, and of the forecaster's normalisation.

    What is not there any more, or is at an address, has none.
    """
    digests = {
        SOURCE: _states(errors),
        NORMALISATION: getattr(errors.forecaster, "normalisation", None),
    }
    return {name: digest for name, digest in digests.items() if digest is not None}


def check_origin(path: Path, attributes: dict[str, object], errors: RolloutErrors) -> None:
    """Refuse samples of other states than there are now.

    Args:
        path: of the samples, for messages.
        attributes: of their store.
        errors: what they would be made of now.

    Raises:
        UserError: when the source or the forecaster's normalisation was replaced.
    """
    names = {
        SOURCE: f"other states than {errors.source.description} has now",
        NORMALISATION: "forecasts with another mean and std than the forecaster has now",
    }
    for name, digest in origin(errors).items():
        if name not in attributes:
            print(
                f"{path}: an earlier version of vaevar made it, which did not keep {name}: nobody can tell "
                f"whether it was made from {names[name]}"
            )
        elif attributes[name] != digest:
            raise UserError(
                f"{path}: was made from {names[name]}; delete it to make it again, or give another path"
            )


def _states(errors: RolloutErrors) -> str | None:
    try:
        store = errors.source.open(errors.spec)
    except UserError:  # complete samples do without
        return None
    path = Path(store.path)
    if not is_store(path):  # a file holds all of its states, an address tells nothing
        digest = content_digest(store.path)
        return None if digest is None else digest.sha256
    used = np.flatnonzero((store.times >= errors.start) & (store.times <= errors.end))
    return StoreContent(path).digest(int(used.min()), int(used.max()) + 1) if used.size else None
