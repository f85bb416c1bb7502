"""Products with the linearisation of a cost, and the solution of its normal equations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vaevar.assim.cost import Cost
from vaevar.assim.gauss_newton import Linearised, minimise_incrementally, solve
from vaevar.assim.minimiser import minimise

SIZE = 12


def attentive(w: Tensor) -> Tensor:
    """Attention of a control vector to itself, in the shape for which torch has a fast kernel."""
    parts = w.reshape(1, 1, 4, 3)
    made: Tensor = scaled_dot_product_attention(parts, parts, parts)
    return (w + made.reshape(-1)).sin()


def cost(dtype: torch.dtype) -> Cost[Tensor]:
    generator = torch.Generator().manual_seed(0)
    operator = torch.randn(20, SIZE, generator=generator, dtype=torch.float64).to(dtype)
    innovation = torch.randn(20, generator=generator, dtype=torch.float64).to(dtype)
    error_std = 0.5 + torch.rand(20, generator=generator, dtype=torch.float64).to(dtype)
    return Cost(attentive, lambda increment: operator @ increment, innovation, error_std, 3.0)


def test_products_and_solution_against_the_matrix() -> None:
    j = cost(torch.float64)
    w = torch.linspace(-1, 1, SIZE, dtype=torch.float64, requires_grad=True)
    linear = Linearised(j, w)
    jacobian = torch.autograd.functional.jacobian(j.departure, w.detach())
    torch.testing.assert_close(linear.departure, j.departure(w))
    direction = torch.cos(torch.arange(SIZE, dtype=torch.float64))
    torch.testing.assert_close(linear.along(direction), jacobian @ direction)
    torch.testing.assert_close(linear.normal(direction), jacobian.T @ jacobian @ direction)
    found, iterations = solve(3.0, linear, direction, 100, 1e-12)
    matrix = 3.0 * torch.eye(SIZE, dtype=torch.float64) + jacobian.T @ jacobian
    torch.testing.assert_close(found, torch.linalg.solve(matrix, direction))
    assert iterations <= SIZE + 2
    assert solve(3.0, linear, direction, 3, 1e-12)[1] == 3


def test_networks_with_attention_have_outer_loops() -> None:
    """In single precision, where torch would take a kernel without a second derivative."""
    j = cost(torch.float32)
    found = minimise_incrementally(j, torch.zeros(SIZE), 6, 100, 1e-5).final
    expected = minimise(j, torch.zeros(SIZE), 100, 10, 1e-5).final
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-4)
    np.testing.assert_allclose(found.w, expected.w, atol=5e-3)
