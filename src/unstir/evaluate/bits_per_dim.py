"""How many bits a dimension of held-out items costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..spec import Count
from .base import Evidence, Finding, Metric, Number

__all__ = ["BitsPerDim"]


@dataclass(frozen=True)
class BitsPerDim(Metric):
    """-log2 p(x) / dimensions of held-out items x, or a bound above it; see `unstir.likelihood`."""

    needs = ("heldout",)
    dear = True

    n: Count = 100
    """Items, spread evenly."""

    def lacks(self, evidence: Evidence) -> str | None:
        return super().lacks(evidence) or ("there is no likelihood" if evidence.bits is None else None)

    def measure(self, evidence: Evidence) -> Finding:
        assert evidence.bits is not None
        bits, errors = (found.double() for found in evidence.bits(min(self.n, len(evidence.heldout))))
        own = math.sqrt(float((errors**2).sum())) / len(bits)
        # Items differ by the errors of their own estimates too: what is seen between them holds both.
        error = float(bits.std() / math.sqrt(len(bits))) if len(bits) > 1 else own
        number = Number.within(
            "bits_per_dim", float(bits.mean()), error, n=len(bits), better="low",
            note=f"of the error, {own:.4f} comes of the estimate" if own else "",
        )  # fmt: skip
        return Finding(numbers=(number,))
