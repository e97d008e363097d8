"""Models as earlier versions saved them.

`python -m tests.hostile.previous` writes the files of this version, once,
before its release: a file that is there is never written again. A layer that
is registered later goes into `build`, and so into the next version's file.
"""

import pathlib

import keras
import numpy as np
from keras import layers

import aw_keras
from aw_keras import AWConv2D, AWDepthwiseConv2D, Classifier
from aw_keras import layers as aw_layers
from aw_keras.ops import per_sample_conv2d
from aw_keras.preprocessing import Preprocess, Preprocessing
from tests.applications.networks import images, predict, randomise

FOLDER = pathlib.Path(__file__).parent / "files"


def build():
    """A small model with everything that is registered for files."""
    x = image = keras.Input((9, 8, 3))
    for layer in (
        Preprocess(Preprocessing(size=(9, 8), crop=0.8), name="preprocess"),
        AWConv2D(8, 3, strides=2, padding="same", activation="relu", name="aw"),
        AWDepthwiseConv2D(3, padding="same", name="aw_depthwise"),
        AWConv2D(8, 1, groups=2, reduction=2, use_bias=False, name="aw_groups"),
        layers.BatchNormalization(name="norm"),
        aw_layers.SqueezeExcite(reduction=2, name="se"),
        aw_layers.CBAM(reduction=2, name="cbam"),
        aw_layers.EfficientChannelAttention(name="eca"),
        aw_layers.GatherExcite(extent=2, name="gather"),
        aw_layers.GatherExcite(4, parametrised=True, name="gather_learned"),
        aw_layers.NonLocal(name="non_local"),
        aw_layers.NonLocal(3, "dot_product", True, name="non_local_dot"),
        aw_layers.DualAttention(name="dual"),
        aw_layers.SpatialChannelAttention(reduction=2, name="sca"),
        aw_layers.SpatialSoftmaxAttention(name="spatial_softmax"),
        aw_layers.IdentityShortcut(10, strides=2, name="shortcut"),
    ):
        x = layer(x)
    kernels = layers.Conv2D(1 * 2 * 10 * 4, (3, 2), name="kernels")(x)
    kernels = layers.Reshape((1, 2, 10, 4), name="shape")(kernels)
    x = per_sample_conv2d(x, kernels)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(5, name="predictions")(x))


def small():
    """A classifier of images of 8 x 8 pixels."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            AWConv2D(4, 3, name="aw"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(3, activation="softmax", name="predictions"),
        ],
        name="small",
    )


def write():
    """Saves models of `build` and `small` with the outputs that they give."""
    path = FOLDER / f"aw_keras-{aw_keras.__version__}.keras"
    if path.exists():
        raise FileExistsError(f"Expected a new version. Received: {path}")
    FOLDER.mkdir(exist_ok=True)
    _save(randomise(build()), path)
    preprocessing = Preprocessing(
        crop=0.8, mean=(9, 99, 0), deviation=(50, 60, 70)
    )
    classifier = Classifier(randomise(small()), preprocessing, "abc")
    _save(classifier, path.with_stem(f"{path.stem}-classifier"))


def _save(model, path):
    x = images(3, 9, 8, 3)
    np.savez(path.with_suffix(".npz"), x=x, outputs=predict(model, x))
    model.save(path)


if __name__ == "__main__":
    write()
