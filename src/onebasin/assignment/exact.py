"""The linear assignment problem, solved exactly."""

import numpy as np
from numpy.typing import NDArray

from onebasin.errors import MismatchError


def solve(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    """The permutation that maximises the sum of `similarity[i, index[i]]`.

    SciPy's modified Jonker-Volgenant algorithm (Crouse, 2016), O(n^3) in the worst case.

    Args:
        similarity: `[n, n]`, entry `[i, j]` scores unit `i` of `a` against unit `j` of `b`; finite. Not modified.

    Returns:
        `[n]` int64 in gather form: unit `i` of the result is `b`'s unit `index[i]`.

    Raises:
        MismatchError: if the matrix is not square or not finite (names the first entry at fault).
    """
    # Imported here, so that `import onebasin` stays light.
    from scipy.optimize import linear_sum_assignment

    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:  # noqa: PLR2004 - a matrix
        raise MismatchError(
            "similarity", expected="a square matrix", found=f"shape {similarity.shape}", remedy="pass [n, n] scores"
        )
    if not np.isfinite(similarity).all():
        i, j = np.argwhere(~np.isfinite(similarity))[0]
        raise MismatchError(
            f"similarity[{i}, {j}]",
            expected="a finite number",
            found=str(similarity[i, j]),
            remedy="look for NaN or overflow in the weights or activations it was computed from",
        )
    return linear_sum_assignment(similarity, maximize=True)[1].astype(np.int64)
