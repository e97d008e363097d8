"""What Keras' trainer lacks under `tf.distribute.MultiWorkerMirroredStrategy`.

Keras 3.15 averages the first batch over the workers to learn its shape, which
the strategy refuses, and averages logs over an axis that they do not have
(https://github.com/keras-team/keras/issues/20585).
"""

import keras
import tensorflow as tf


class MultiWorkerModel(keras.Model):
    """A functional model that several workers can train."""

    def train_step(self, data):
        return _with_axis(super().train_step(data))

    def test_step(self, data):
        return _with_axis(super().test_step(data))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            local = self.distribute_strategy.experimental_local_results
            data_batch = tuple(local(part)[0] for part in next(batches))
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)


def _with_axis(logs):
    return {name: tf.expand_dims(value, 0) for name, value in logs.items()}
