"""Nearest neighbours among vectors of one space: exact, and by FAISS indexes that are measured against it."""

from featstore.neighbours.exact import nearest, nearest_others
from featstore.neighbours.fast import exact
from featstore.neighbours.grouped import nearest_of_groups
from featstore.neighbours.index import VectorIndex
from featstore.neighbours.measuring import Measured, measure, truth_of, tune
from featstore.neighbours.recipes import KINDS, Recipe, bytes_per_vector, recipes
from featstore.neighbours.vectors import cosines, lengths_of

__all__ = [
    "KINDS",
    "Measured",
    "Recipe",
    "VectorIndex",
    "bytes_per_vector",
    "cosines",
    "exact",
    "lengths_of",
    "measure",
    "nearest",
    "nearest_of_groups",
    "nearest_others",
    "recipes",
    "truth_of",
    "tune",
]
