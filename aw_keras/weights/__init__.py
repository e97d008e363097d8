"""Files of weights: what is in them, and whether it fits."""

from aw_keras.weights.loading import Receipt, load

__all__ = ["Receipt", "load"]
