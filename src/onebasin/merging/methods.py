"""The table of the methods that merge tensor by tensor; a new one needs a row here and nothing else."""

from onebasin.merging.arithmetic import breadcrumbs, dare_linear, dare_ties, task_arithmetic, ties
from onebasin.merging.average import lerp, mean, slerp
from onebasin.merging.method import Method

METHODS: dict[str, Method[...]] = {
    chosen.name: chosen for chosen in (mean, lerp, slerp, task_arithmetic, ties, dare_linear, dare_ties, breadcrumbs)
}
"""The methods by name."""
