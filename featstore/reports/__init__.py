"""A head's report: one page, made from its card and its predictions, that opens anywhere and asks for nothing."""

from featstore.reports.page import render
from featstore.reports.writing import write

__all__ = ["render", "write"]
