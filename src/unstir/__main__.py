"""`unstir`, and `python -m unstir`."""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> int:
    """The command line, where an interrupt while it is still being loaded is one like any other."""
    try:
        from .cli import main

        return main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run())
