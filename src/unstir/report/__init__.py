"""Pages that open anywhere, without a network: report.html of a run, without scripts, and explanations."""

from .explained import write_explanations
from .page import write_report
from .plot import Curve, plot

__all__ = ["Curve", "plot", "write_explanations", "write_report"]
