"""Reports: self-contained HTML pages about alignments and style transfers, and curves of training runs."""

from jaxapf._internal.text import fixed, number
from jaxapf.report.curves import plot_losses
from jaxapf.report.page import write

__all__ = ["fixed", "number", "plot_losses", "write"]
