"""Files of weights: which there are, where from, what in them fits a model."""

from aw_keras.weights.loading import Receipt, load
from aw_keras.weights.manifest import (
    PublishedFile,
    ReleasedFile,
    Verified,
    published,
    released,
)
from aw_keras.weights.store import fetch

__all__ = [
    "PublishedFile",
    "Receipt",
    "ReleasedFile",
    "Verified",
    "fetch",
    "load",
    "published",
    "released",
]
