"""What files of weights are called, which says how they are read.

It needs no framework: the command line asks before it starts one.
"""

import pathlib

#: The network in the folder of a training, an `aw_keras.Classifier`.
MODEL_FILE = "model.keras"

KERAS = (".weights.h5", ".keras")

SAFETENSORS = ".safetensors"
PYTORCH = (SAFETENSORS, ".pth", ".pt", ".th", ".bin")


def is_pytorch(path):
    """Whether a path, or whatever it is, ends as files of PyTorch do."""
    return pathlib.Path(str(path)).suffix.lower() in PYTORCH
