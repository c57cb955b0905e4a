"""Light models on stored vectors: folds that leak nothing, a probe, intervals for differences."""

from featstore.heads.folds import bind, fold, rare
from featstore.heads.interval import paired_interval
from featstore.heads.probe import balanced_accuracy, predict_out_of_fold

__all__ = ["balanced_accuracy", "bind", "fold", "paired_interval", "predict_out_of_fold", "rare"]
