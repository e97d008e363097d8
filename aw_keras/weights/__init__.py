"""Files of weights: which there are, where from, what in them fits a model."""

from aw_keras.weights.loading import Receipt, load
from aw_keras.weights.manifest import ReleasedFile, released
from aw_keras.weights.store import fetch

__all__ = ["Receipt", "ReleasedFile", "fetch", "load", "released"]
