"""Why an axis cannot move, or why two axes move together: a chain of operations that a person can follow."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the chain.

    Attributes:
        operation: what ties, in words: the operation, the module and the user's line.
        reaches: the tensor and axis that the chain passes through behind it, as `tensor:axis`; empty in between.
    """

    operation: str
    reaches: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer to "why is this axis pinned?" or "why do these two move together?".

    Attributes:
        axis: the axis asked about, as `tensor:axis`.
        answer: one sentence.
        steps: the chain of operations from the axis to the cause, or to the other axis.
    """

    axis: str
    answer: str
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        """The sentence, and below it one line a step."""
        lines = [f"{self.axis}: {self.answer}"]
        lines += [f"  {step.operation}" + (f"  ->  {step.reaches}" if step.reaches else "") for step in self.steps]
        return "\n".join(lines)


class Explainer(Protocol):
    """What discovery leaves behind in a symmetry so that it can be asked."""

    def explain(self, tensor: str, axis: int, to: str | None) -> Explanation:
        """The chain from an axis to the cause of its pin, or to another tensor that moves with it."""
