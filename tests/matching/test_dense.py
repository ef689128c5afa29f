"""Weight matching against a version for multilayer perceptrons written straight from the paper's equation.

Ainsworth et al. 2023, section 3.2, with A's weights W_l, B's weights V_l and permutation matrices P_l:

    P_l <- argmax over P of <P, W_l P_{l-1} V_l^T + W_{l+1}^T P_{l+1} V_{l+1} + biases>.
"""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from onebasin import AxisGroup, match
from strategies import normal, written

Matrix = NDArray[np.float64]
Weights = list[Matrix]

HIDDEN = (14, 11, 9)
SIZES = (6, *HIDDEN, 4)


def dense(W: Weights, c: Weights, V: Weights, d: Weights, seed: int) -> tuple[list[Matrix], float]:
    """Permutation matrices with `P_l V_l P_{l-1}^T` close to `W_l`, and the objective they reach."""
    P = [np.eye(size) for size in SIZES]

    def objective() -> float:
        weights = sum(float((W[k] * (P[k + 1] @ V[k] @ P[k].T)).sum()) for k in range(len(W)))
        return weights + sum(float(c[k] @ P[k + 1] @ d[k]) for k in range(len(HIDDEN)))

    generator = np.random.default_rng(seed)
    reached = [objective()]
    while len(reached) < 2 or reached[-1] > reached[-2] + 1e-9:
        order = generator.permutation(len(HIDDEN)) if len(reached) > 1 else range(len(HIDDEN))
        for k in (position + 1 for position in order):
            score = W[k - 1] @ P[k - 1] @ V[k - 1].T + W[k].T @ P[k + 1] @ V[k] + np.outer(c[k - 1], d[k - 1])
            P[k] = np.eye(SIZES[k])[linear_sum_assignment(score, maximize=True)[1]]
        reached.append(objective())
    return P, reached[-1]


@pytest.mark.parametrize("seed", range(12))
def test_same_steps_reach_the_same_place(seed: int) -> None:
    """Visiting the layers in the same order, both find the same permutations and the same objective."""
    groups = [AxisGroup(f"h{k}", size) for k, size in enumerate(HIDDEN)]
    rows = [*(f"h{k}" for k in range(len(HIDDEN))), str(SIZES[-1])]
    tensors = {
        f"w{k}": f"{row},{column}" for k, (row, column) in enumerate(zip(rows, [str(SIZES[0]), *rows], strict=False))
    }
    tensors |= {f"b{k}": rows[k] for k in range(len(HIDDEN))}
    symmetry = written(groups, tensors)
    a, b = normal(symmetry, seed), normal(symmetry, seed + 100)
    found = match(a, b, symmetry, "weight", seed=seed)
    W, V = ([state[f"w{k}"].numpy() for k in range(len(rows))] for state in (a, b))
    c, d = ([state[f"b{k}"].numpy() for k in range(len(HIDDEN))] for state in (a, b))
    P, objective = dense(W, c, V, d, seed)

    assert found.objective == pytest.approx(objective, rel=1e-12)
    for k in range(len(HIDDEN)):
        np.testing.assert_array_equal(np.eye(HIDDEN[k])[found.permutations[f"h{k}"].index], P[k + 1])
    for k, aligned in enumerate(V):
        np.testing.assert_array_equal(found.apply(b)[f"w{k}"], torch.from_numpy(P[k + 1] @ aligned @ P[k].T))
