"""Ridge problems against closed forms, and the fit behind a ReLU against a general optimiser."""

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from onebasin.correction.solve import RIDGES, Moments, Ridge, choose_ridge, rectified_fit, spanned


def problem(rows: int = 60, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs with a mean of their own, targets, and weights to stay close to, in two groups."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, rows, 5, generator=generator, dtype=torch.float64) + 1
    W = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, rows, 3, generator=generator, dtype=torch.float64)
    return x, x @ W + 2 + noise, W + torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)


def gathered(x: Tensor, y: Tensor) -> Moments:
    """The moments of rows, taken in two parts."""
    moments = Moments.zero(x.shape[0], x.shape[2], y.shape[2], x.device)
    moments.add(x[:, :7], y[:, :7])
    moments.add(x[:, 7:], y[:, 7:])
    return moments


@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_is_least_squares_with_rows_added(intercept: bool) -> None:
    """The solution is that of NumPy's least squares with one more row a weight, which pulls it to its centre."""
    x, y, center = problem()
    fixed = None if intercept else torch.full((2, 3), 0.7, dtype=torch.float64)
    moments = gathered(x, y)
    W, b = Ridge(moments, center, 0.05, fixed).solve(moments.xy, moments.y)
    for group in range(2):
        rows = (x - x.mean(1, keepdim=True) if intercept else x)[group].numpy()
        targets = (y[group] - (y[group].mean(0) if intercept else 0.7)).numpy()
        pull = np.sqrt(0.05 * np.diag(rows.T @ rows).mean()) * np.eye(5)
        expected = np.linalg.lstsq(
            np.vstack([rows, pull]), np.vstack([targets, pull @ center[group].numpy()]), rcond=None
        )[0]
        np.testing.assert_allclose(W[group], expected, atol=1e-9)
        found = y[group].mean(0) - x[group].mean(0) @ W[group] if intercept else torch.full((3,), 0.7).double()
        torch.testing.assert_close(b[group], found)


def test_ridge_goes_from_the_data_to_the_centre() -> None:
    """Without data that speaks against it the centre stays, a huge ridge keeps it, and rounding never stops it."""
    x, y, center = problem()
    moments = gathered(x, x @ center + 3)
    constant = gathered(torch.ones_like(x), y)

    torch.testing.assert_close(Ridge(moments, center, 1e-3, None).solve(moments.xy, moments.y)[0], center)
    torch.testing.assert_close(Ridge(gathered(x, y), center, 1e9, None).solve(*parts(x, y))[0], center)
    found, _ = Ridge(constant, center, 1e-300, None).solve(constant.xy, constant.y)
    torch.testing.assert_close(found, center, atol=1e-4, rtol=0)


def parts(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The moments that targets bring in."""
    return gathered(x, y).xy, gathered(x, y).y


def test_moments_know_the_error() -> None:
    """Error, spread, and mean and variance of outputs from moments are those of the rows."""
    x, y, W = problem()
    b, moments = torch.randn(2, 3).double(), gathered(x, y)
    both = gathered(x[:, :20], y[:, :20]) + gathered(x[:, 20:], y[:, 20:])

    assert moments.error(W, b) == pytest.approx(float((x @ W + b[:, None] - y).square().sum()))
    assert both.error(W, b) == pytest.approx(moments.error(W, b))
    assert moments.spread() == pytest.approx(float((y - y.mean(1, keepdim=True)).square().sum()))
    torch.testing.assert_close(moments.outputs(W), ((x @ W).mean(1), (x @ W).var(1, correction=0)))


@pytest.mark.parametrize("intercept", [True, False])
def test_few_rows_are_solved_in_their_span(intercept: bool) -> None:
    """With fewer rows than inputs, the problem in the rows' coordinates has the solution of the whole one."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 9, 40, generator=generator, dtype=torch.float64) + 1
    x[0, 3] = x[0, 2]  # rows that depend on each other
    y = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    center = torch.randn(2, 40, 3, generator=generator, dtype=torch.float64)
    fixed = None if intercept else torch.full((2, 3), 0.7, dtype=torch.float64)
    Q, coordinates = spanned(x)
    few = Moments.zero(2, 9, 3, width=40)
    few.add(coordinates, y)
    whole = gathered(x, y)
    V, b = Ridge(few, Q.mT @ center, 0.02, fixed).solve(few.xy, few.y)
    W, c = Ridge(whole, center, 0.02, fixed).solve(whole.xy, whole.y)

    torch.testing.assert_close(center + Q @ (V - Q.mT @ center), W)
    torch.testing.assert_close(b, c)
    torch.testing.assert_close(few.outputs(V), whole.outputs(W))
    assert few.error(V, b) == pytest.approx(whole.error(W, c))


def test_the_ridge_is_chosen_on_held_rows() -> None:
    """Few noisy rows against a true centre get a large ridge, many clean ones against a false centre a small one."""
    x, _, truth = problem(400)
    clean, noise = x @ truth, 20 * problem(400, seed=1)[1]
    few, held, many = gathered(x[:, :9], (clean + noise)[:, :9]), gathered(x[:, 9:], clean[:, 9:]), gathered(x, clean)

    assert choose_ridge(few, held, truth, None) == max(RIDGES)
    assert choose_ridge(many, held, truth + 5, None) == min(RIDGES)


def test_what_a_relu_lets_through_is_fitted() -> None:
    """The solution is that of a general optimiser on the convex loss, and better behind the ReLU than least squares."""
    x, y, center = problem(300)
    x, y = x[:1], (y - 2)[:1] + 1.5 * torch.randn(1, 300, 3).double()
    added = torch.randn(1, 300, 3).double()
    moments = gathered(x, y - added)
    ridge = Ridge(moments, center[:1], 1e-9, None)
    start = ridge.solve(moments.xy, moments.y)
    found = rectified_fit(ridge, x, y, added, start)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = torch.tensor(flat).requires_grad_()
        z = x @ solution[:15].view(1, 5, 3) + solution[15:] + added
        value = torch.where(y > 0, (z - y).square(), z.clamp(min=0).square()).sum()
        value.backward()
        return float(value.detach()), solution.grad.numpy()

    flat = [torch.cat([W.flatten(), b.flatten()]).numpy() for W, b in (start, found)]
    best = optimize.minimize(loss, flat[0], jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14})
    assert loss(flat[1])[0] == pytest.approx(best.fun, rel=5e-3)
    assert loss(flat[1])[0] < 0.95 * loss(flat[0])[0]
