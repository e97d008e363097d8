"""The networks of this library in the TensorFlow Model Garden.

Importing this package registers the backbone `aw_resnet` and the experiments
`fasterrcnn_aw_resnetfpn_coco` and `fasterrcnn_aw_resnetfpn_bccd` with the Model
Garden. It is the only part of the library that knows tf_keras, and needs what
`pip install 'aw-keras[detection]'` installs, and Keras on TensorFlow.
"""

import importlib.util

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "Expected Keras to run on TensorFlow: set the environment variable "
        "KERAS_BACKEND=tensorflow before Keras is imported. "
        f"Received: backend={keras.backend.backend()}"
    )

_missing = [
    package
    for package in ("official", "tf_keras")
    if importlib.util.find_spec(package) is None
]
if _missing:
    raise ImportError(
        "Expected the packages that `pip install 'aw-keras[detection]'` "
        f"installs. Received: missing={_missing}"
    )

from aw_keras.detection import experiments  # noqa: E402
from aw_keras.detection.backbone import AWResNet  # noqa: E402
from aw_keras.detection.layers import (  # noqa: E402
    CBAM,
    AWConv2D,
    SqueezeExcite,
)
from aw_keras.detection.weights import (  # noqa: E402
    load_backbone,
    save_backbone,
)

__all__ = [
    "AWConv2D",
    "AWResNet",
    "CBAM",
    "SqueezeExcite",
    "experiments",
    "load_backbone",
    "save_backbone",
]
