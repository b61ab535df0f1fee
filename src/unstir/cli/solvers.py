"""`unstir solvers`: the methods that step from noise to data."""

from __future__ import annotations

import inspect
import re
import time

from .common import Json, say, show, table

__all__ = ["solvers"]

BEST_FOR = re.compile(r"Best for: (.*?)(?:\.\s|\.$|:\s|$)", re.DOTALL)


def solvers(as_json: Json = False) -> None:
    """List the solvers: order, cost and what each is best for.

    The order is the claimed one beside the one measured here and now. Every solver is shown with its default
    settings; `unstir config sample` lists them all.

    \b
    Examples:
      unstir solvers
      unstir sample runs/demo solver=heun steps=10
      unstir sample runs/demo solver=rungekutta solver.tableau=midpoint
    """
    from .. import solvers as folder
    from ..evaluate.orders import measured_order

    start = time.perf_counter()
    data = []
    for name in folder.__all__:
        solver = getattr(folder, name)()
        found = BEST_FOR.search(inspect.getdoc(solver) or "")
        data.append(
            {
                "name": name.lower(),
                "order": solver.order,
                "measured": measured_order(solver),
                "evaluations": solver.evaluations,
                "startup": solver.startup,
                "stochastic": solver.stochastic,
                "invertible": solver.pure,
                "process": solver.process.__name__,
                "best_for": " ".join(found[1].split()) if found else "",
            }
        )
    rows = [
        (
            row["name"],
            "-" if row["order"] is None else row["order"],
            "-" if row["measured"] is None else f"{row['measured']:.2f}",
            "varies" if row["evaluations"] is None else row["evaluations"],
            "yes" if row["stochastic"] else "no",
            row["best_for"],
        )
        for row in data
    ]
    show(table(("solver", "order", "measured", "calls/step", "noise", "best for"), rows), data, as_json)
    say(f"orders measured on a mixture of Gaussians in {time.perf_counter() - start:.1f} s", quiet=as_json)
