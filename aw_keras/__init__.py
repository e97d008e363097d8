"""Convolutional networks with attention, as ordinary Keras models.

`import aw_keras` imports all of this, so that Keras knows every layer when it
loads a model. The command `aw-keras` is the exception: it has to answer
`--help` without waiting for a framework, and imports a part when it needs it.
"""

import pathlib
import sys

__version__ = "0.1.0"

__all__ = [
    "AWConv2D",
    "AWDepthwiseConv2D",
    "Classifier",
    "applications",
    "explain",
    "export",
    "fold_attention",
    "layers",
    "ops",
    "to_aw",
    "weights",
]


def _is_command():
    """Whether this is the process of `aw-keras`, or of `-m aw_keras.cli`."""
    program = pathlib.PurePath(*sys.argv[:1])
    if program.name == "-m":  # Python looks for the module.
        after = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
        return after[:1] == ["aw_keras.cli"]
    return program.stem == "aw-keras"


if not _is_command():
    from aw_keras import applications, explain, layers, ops, weights
    from aw_keras.classifier import Classifier
    from aw_keras.convert import fold_attention, to_aw
    from aw_keras.exporting import export
    from aw_keras.layers import AWConv2D, AWDepthwiseConv2D
