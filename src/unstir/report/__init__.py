"""report.html: a run on one page that opens anywhere, without scripts and without a network."""

from .page import write_report
from .plot import Curve, plot

__all__ = ["Curve", "plot", "write_report"]
