"""A small network, and the members of the `.keras` file that it is saved in."""

import zipfile

import keras

from aw_keras import AWConv2D


def network():
    image = keras.Input((4, 4, 3))
    x = AWConv2D(4, 3, activation="relu", name="stem")(image)
    return keras.Model(image, keras.layers.GlobalMaxPooling2D(name="pool")(x))


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
