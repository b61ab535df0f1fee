"""`unstir solvers`: the methods that step from noise to data."""

from __future__ import annotations

from .common import Json, show, table

__all__ = ["solvers"]


def solvers(as_json: Json = False) -> None:
    """List the solvers, their order and cost.

    \b
    Examples:
      unstir solvers
      unstir sample runs/demo solver=heun steps=10
    """
    from .. import solvers as folder

    data = []
    for name in folder.__all__:
        solver = getattr(folder, name)()
        data.append(
            {
                "name": name.lower(),
                "order": solver.order,
                "evaluations": solver.evaluations,
                "stochastic": solver.stochastic,
                "process": solver.process.__name__,
                "doc": (type(solver).__doc__ or "").partition("\n")[0],
            }
        )
    rows = [
        (
            row["name"],
            row["order"] or "-",
            row["evaluations"] or "varies",
            "yes" if row["stochastic"] else "no",
            row["doc"],
        )
        for row in data
    ]
    show(table(("solver", "order", "calls/step", "noise", "method"), rows), data, as_json)
