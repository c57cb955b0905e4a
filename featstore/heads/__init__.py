"""Light models on stored vectors: folds that leak nothing, heads fitted and judged on them, a probe, intervals."""

from featstore.heads.calibration import probabilities, temperature
from featstore.heads.conformal import abstains, calibrate, judged, sets
from featstore.heads.fitting import Fitted, fit
from featstore.heads.folds import bind, fold, rare
from featstore.heads.head import Head
from featstore.heads.interval import paired_interval
from featstore.heads.kinds import kinds_of
from featstore.heads.metrics import ece, figures, mean_of, paired, reliability
from featstore.heads.probe import balanced_accuracy, predict_out_of_fold

__all__ = [
    "Fitted",
    "Head",
    "abstains",
    "balanced_accuracy",
    "bind",
    "calibrate",
    "ece",
    "figures",
    "fit",
    "fold",
    "judged",
    "kinds_of",
    "mean_of",
    "paired",
    "paired_interval",
    "predict_out_of_fold",
    "probabilities",
    "rare",
    "reliability",
    "sets",
    "temperature",
]
