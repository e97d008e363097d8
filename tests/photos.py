"""Photographs that scikit-learn ships, ten times as large as small inputs."""

import functools

import numpy as np
from sklearn.datasets import load_sample_image


@functools.cache
def photos():
    """uint8 arrays by name: landscape, portrait, and square."""
    china, flower = map(load_sample_image, ("china.jpg", "flower.jpg"))
    return {
        "landscape": china,
        "portrait": np.ascontiguousarray(flower[:, 120:420]),
        "turned": np.ascontiguousarray(np.rot90(flower)),
        "square": np.ascontiguousarray(china[60:400, 200:540]),
    }
