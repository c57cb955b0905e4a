"""Nearest neighbours among vectors of one space."""

from featstore.neighbours.exact import nearest, nearest_others
from featstore.neighbours.grouped import nearest_of_groups

__all__ = ["nearest", "nearest_of_groups", "nearest_others"]
