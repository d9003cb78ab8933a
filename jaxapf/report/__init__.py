"""The report: one self-contained HTML page that shows and plays what an alignment did."""

from jaxapf.report.curves import plot_losses
from jaxapf.report.page import write

__all__ = ["plot_losses", "write"]
