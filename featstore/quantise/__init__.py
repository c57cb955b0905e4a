"""A model in fewer bits: calibrated on the user's own items, and let through by a gate on others of them."""

from featstore.quantise.gate import LEAST, Least, failures
from featstore.quantise.make import make

__all__ = ["LEAST", "Least", "failures", "make"]
