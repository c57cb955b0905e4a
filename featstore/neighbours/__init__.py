"""Nearest neighbours among vectors of one space."""

from featstore.neighbours.exact import nearest

__all__ = ["nearest"]
