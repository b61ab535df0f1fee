"""What every child of the server does first: die with it, and let it go before."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["die_with_parent", "stand_back"]

PR_SET_PDEATHSIG = 1
NICENESS = 10
"""Answering comes before drawing."""


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent is gone; elsewhere the closed pipe says so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        sys.exit(1)


def stand_back(parent: int) -> None:
    """For a child that is just starting: die with the parent, yield the processor to who answers."""
    die_with_parent(parent)
    os.nice(NICENESS)


if (
    __name__ == "__main__"
):  # python -m unstir.serve.child PARENT WORDS: python WORDS as a child of that process
    stand_back(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
