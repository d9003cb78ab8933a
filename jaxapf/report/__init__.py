"""Reports: self-contained HTML pages about alignments and style transfers, and curves of training runs."""

from jaxapf.report.curves import plot_losses
from jaxapf.report.page import write

__all__ = ["plot_losses", "write"]
