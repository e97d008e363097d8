"""`Classifier`: a network that takes photos and knows what it says.

A network begins at normalised images and ends at numbers. What was done to its
images and what its classes are called is lost where only the network is kept:
here both are part of the model, and of the one file that it is saved in.
"""

import dataclasses

import keras

from aw_keras.preprocessing import Preprocess, Preprocessing, image_shape


@keras.saving.register_keras_serializable(package="aw_keras")
class Classifier(keras.Model):
    """A model of pixels: a preprocessing, a network, names of classes.

    Saved as a `.keras` file it is all that `aw-keras predict`, `explain` and
    `export` need. `zoo.train` leaves one in the folder of each run.

    Example:

    >>> import numpy as np
    >>> from aw_keras import Classifier
    >>> from aw_keras.applications import ResNet20, get_entry
    >>> network = ResNet20(classes=2)
    >>> preprocessing = get_entry("ResNet20").preprocessing
    >>> classifier = Classifier(network, preprocessing, ["cat", "dog"])
    >>> photo = np.zeros((427, 640, 3), "uint8")
    >>> classifier.predict(photo[None], verbose=0).shape
    (1, 2)

    Args:
        network: `keras.Model` of normalised images `(N, height, width,
            channels)`, or channels first, with one output `(N, classes)`; or
            what Keras serialises it to.
        preprocessing: `Preprocessing`, or a dict of its fields. Its size
            becomes that of the network.
        class_names: Sequence of the names of the classes; or `None`.
        name: Name of the model; that of the network by default.

    Input shape:
        `(N, height, width, channels)`: images of any one size with values
        from 0 to 255, red, green and blue, or grey for a network of those.

    Output shape:
        That of the network.

    Raises:
        ValueError: If the network takes no images, or has another number of
            classes than there are names.
    """

    def __init__(self, network, preprocessing, class_names=None, name=None):
        if isinstance(network, dict):
            network = keras.saving.deserialize_keras_object(network)
        if isinstance(preprocessing, dict):
            preprocessing = Preprocessing(**preprocessing)
        preprocessing = preprocessing.for_model(network)
        if class_names is not None:
            class_names = tuple(map(str, class_names))
            _check_classes(network, class_names)
        *_, channels = image_shape(network)
        image = keras.Input((None, None, channels), name="image")
        x = Preprocess(preprocessing, "channels_last")(image)
        if network.input_shape[1] == channels != network.input_shape[-1]:
            x = keras.layers.Permute((3, 1, 2))(x)
        super().__init__(image, network(x), name=name or network.name)
        self.class_names = class_names

    @property
    def network(self):
        """The `keras.Model` of normalised images."""
        return self.layers[-1]

    @property
    def preprocessing(self):
        """The `Preprocessing` of the network's images."""
        return self.layers[1].preprocessing

    def get_config(self):
        names = self.class_names
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "class_names": None if names is None else list(names),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def _check_classes(network, class_names):
    shapes = [tensor.shape for tensor in network.outputs]
    if [tuple(shape[1:]) for shape in shapes] != [(len(class_names),)]:
        raise ValueError(
            "Expected a name for each class of the network, which has outputs "
            f"of the shapes {shapes}. Received: {len(class_names)} names"
        )
