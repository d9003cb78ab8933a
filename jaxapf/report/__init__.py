"""The report: one self-contained HTML page that shows and plays what an alignment did."""

from jaxapf.report.page import write

__all__ = ["write"]
