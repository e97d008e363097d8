"""Predicts by a SavedModel with nothing but TensorFlow.

    python -I plain_tensorflow.py SAVED_MODEL IMAGES.npy PROBABILITIES.npy

This is all that a server of an exported model needs: neither this library nor
Keras. To prove it, both are blocked here.
"""

import importlib
import sys

BLOCKED = ("aw_keras", "keras", "tf_keras")
# `None` in the place of a module makes its import fail.
sys.modules.update(dict.fromkeys(BLOCKED))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402


def predict(path, images):
    """Outputs of the SavedModel at `path` for an array of images."""
    model = tf.saved_model.load(path)
    return model.serve(tf.constant(images, "float32")).numpy()


def check_blocked():
    for package in BLOCKED:
        try:
            importlib.import_module(package)
        except ImportError:
            continue
        sys.exit(f"Expected {package} to be blocked. It was imported.")


if __name__ == "__main__":
    check_blocked()
    saved_model, source, target = sys.argv[1:]
    np.save(target, predict(saved_model, np.load(source)))
