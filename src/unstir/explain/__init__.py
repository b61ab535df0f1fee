"""What introductions show as still figures, alive: computed anew for every setting by the library itself.

A subject is one file and one line here: the command line, the studio's forms and the tests read this list.
"""

from __future__ import annotations

from .attention import Attention
from .base import Chart, Cloud, Explanation, Movie, Picture, Scatter, Subject, Table
from .distribution import Distribution
from .forward import Forward
from .question import Question, explain, subjects
from .schedule import Schedule
from .solvers import Solvers
from .trajectory import Trajectory

__all__ = [
    "Attention",
    "Chart",
    "Cloud",
    "Distribution",
    "Explanation",
    "Forward",
    "Movie",
    "Picture",
    "Question",
    "Scatter",
    "Schedule",
    "Solvers",
    "Subject",
    "Table",
    "Trajectory",
    "explain",
    "subjects",
]
