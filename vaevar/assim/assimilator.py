"""What every assimilation method is: a background and observations in, an analysis out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.assim.untouched import untouched
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.mistakes.notices import Call, notice
from vaevar.plausible.belonging import tell_faults
from vaevar.state import Fields, State


@dataclass(frozen=True)
class Analysis:
    """An analysed state and how it was reached.

    Attributes:
        state: x_a, on the background's grid.
        diagnostics: numbers about the analysis by name. A variational analysis has ``j_b`` and ``j_o`` at
            the minimum, ``j_o_initial`` at the background, ``grad_norm`` and ``initial_grad_norm``
            (Euclidean), ``iterations``, ``evaluations`` of J and its gradient, ``chi2`` = 2 J/P (near 1
            where B and R are right), ``lambda`` and ``seconds``. A free run has none.
        background: x_b; set when a method is called.
        converged: whether a minimisation came to its end, not to the most iterations that it was allowed.

    Example:
        >>> analysis = method(state, observations)
        >>> float(abs(analysis.increment["z500"]).max()) > 0, analysis.converged
        (True, True)
    """

    state: State
    diagnostics: dict[str, float]
    background: State | None = None
    converged: bool = True

    @property
    def increment(self) -> Fields:
        """x_a − x_b.

        Raises:
            ValueError: when the analysis does not know its background.
        """
        if self.background is None:
            raise ValueError(
                "this analysis does not know its background: call the method itself, not its forward"
            )
        return self.state - self.background


class Assimilator(nn.Module, ABC):
    """The base of every method. A subclass has ``forward``; users call the object itself.

    Attributes:
        window: K, the number of times that it analyses at once.

    Example:
        >>> class Halfway(vaevar.Assimilator):
        ...     def forward(self, background, observations, context=vaevar.AnalysisContext()):
        ...         analysis = method(background, observations, context)
        ...         values = (analysis.state.values + background.values) / 2
        ...         return vaevar.Analysis(vaevar.State(values, background.spec, background.grid), {})
        >>> Halfway()(state, observations).increment["z500"].shape
        (16, 32)
    """

    window: int = 1

    @property
    def stride(self) -> int:
        """The number of times from the beginning of a window to that of the next. Of windows that overlap,
        the analyses of the last ``stride`` times are handed out."""
        return self.window

    def __call__(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Analyse one time, as :meth:`forward` does, with networks in evaluation mode whatever mode they are
        in, and without gradients of their parameters.

        Args:
            background: x_b, [C, H, W]; it is not changed.
            observations: y, P of them, all taken as made at the analysis time.
            context: which analysis of a cycle this is.

        Raises:
            TypeError: for something else than a State and Observations.
            ValueError: for several backgrounds at once.
            UserError: when the method changes its background.
        """
        with Call():
            _check(type(self).__name__, background, observations)
            return self._analysed(background, observations, context)

    def _analysed(self, background: State, observations: Observations, context: AnalysisContext) -> Analysis:
        if context is STANDALONE:
            tell_faults("the background", background.values, background.spec, background.grid)
        unchanged = untouched(type(self).__name__, background.values, background.grid)
        with evaluating(self), unchanged:
            analysis = super().__call__(background, observations, context)
        if not isinstance(analysis, Analysis):  # of somebody's own method; the cycle says so
            return analysis
        if context is STANDALONE:
            tell_convergence(type(self).__name__, analysis.converged, analysis.diagnostics)
        return replace(analysis, background=background)

    @abstractmethod
    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Analyse one time.

        Args:
            background: x_b, [C, H, W]; it is not changed.
            observations: y, P of them.
            context: which analysis of a cycle this is.
        """

    def require_forecaster(self, forecaster: Forecaster) -> None:
        """Check, before a cycle begins, that the method can work with its forecaster.

        Args:
            forecaster: of the cycle.

        Raises:
            UserError: when it cannot. Most methods work with any.
        """

    def analyse_window(
        self,
        start: Tensor,
        observations: Sequence[Observations],
        forecaster: Forecaster,
        context: AnalysisContext = STANDALONE,
    ) -> list[Analysis]:
        """Analyse a window of ``self.window`` times: what a cycle calls.

        Args:
            start: [history, C, H, W], the last states of the forecaster; the last of them is x_b at the first
                time of the window.
            observations: of each of the K times, ``forecaster.step_hours`` apart.
            forecaster: of the cycle.
            context: which analysis of a cycle the first one is.

        Returns:
            K analyses, with their backgrounds.
        """
        (observed,) = observations
        return [self(State(start[-1], forecaster.spec, forecaster.grid), observed, context)]


class FreeRun(Assimilator):
    """No assimilation: the forecast goes on from its own state.

    Example:
        >>> float(abs(vaevar.FreeRun()(state, observations).increment["z500"]).max())
        0.0
    """

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        return Analysis(background, {})


def add_increment(background: State, increment: Tensor | np.ndarray) -> State:
    """x_b + increment [C, H, W], in the background's precision and on its device."""
    values = background.values
    added = values.double() + torch.as_tensor(increment, dtype=torch.float64, device=values.device)
    return State(added.to(values.dtype), background.spec, background.grid)


def check_method(method: object, where: str) -> None:
    """Check that a method is one.

    Args:
        method: what is given for it.
        where: for the message.

    Raises:
        UserError: when it is not.
    """
    if isinstance(method, Assimilator):
        return
    given = f"the class {method.__name__}" if isinstance(method, type) else f"a {type(method).__name__}"
    raise UserError(
        f"{where}: is {given}, expected an Assimilator: an object, such as vaevar.FreeRun() or "
        "vaevar.pretrained('threedvar')"
    )


def _check(name: str, background: object, observations: object) -> None:
    if not isinstance(background, State):
        raise TypeError(
            f"{name}: the background is {type(background).__name__}, expected a State: "
            "State(values, spec, grid), or State.from_xarray(dataset)"
        )
    if background.values.ndim != 3:
        raise ValueError(
            f"{name}: the background is {list(background.values.shape)}, expected one state [C, H, W]: "
            "analyse several one after the other"
        )
    if not isinstance(observations, Observations):
        raise TypeError(
            f"{name}: the observations are {type(observations).__name__}, expected Observations, such as "
            "Observations.from_dataframe(table) or simulate(truth, network, errors, time, seed)"
        )
    if np.any(observations.time_offset):
        latest = np.abs(observations.time_offset).max()
        notice(
            f"{name}: observations up to {latest:g} h from the analysis time are taken as made at that time; "
            "select those that are near enough"
        )


@contextmanager
def evaluating(method: nn.Module) -> Iterator[None]:
    """Networks of a method for an analysis: without dropout, and without gradients of their parameters."""
    training = [module for module in method.modules() if module.training]
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    try:
        for module in training:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in parameters:
            parameter.requires_grad_(True)


def tell_convergence(name: str, converged: bool, numbers: Mapping[str, float]) -> None:
    """Say that a minimisation has not come to its end, to whoever called a method outside of a cycle.

    Args:
        name: of the method.
        converged: whether it has.
        numbers: its diagnostics.
    """
    if not converged:
        fell = numbers["grad_norm"] / numbers["initial_grad_norm"]
        notice(
            f"{name}: the minimisation did not converge: after {numbers['iterations']:g} iterations the "
            f"gradient is {fell:.2g} of what it was; allow more iterations, or a larger tolerance"
        )
