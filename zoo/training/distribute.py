"""One training on several devices, by one key of the recipe.

Every device sees its part of each batch, and normalisations use the statistics
of the whole of it: the result is that of one device, up to rounding.
"""

import contextlib

import keras

from zoo.training.provenance import processor

_BACKENDS = {
    "mirrored": "tensorflow",
    "multi_worker": "tensorflow",
    "tpu": "tensorflow",
    "data_parallel": "jax",
}


def check_backend(kind):
    """Raises `ValueError` if `distribute` needs another backend."""
    backend = keras.backend.backend()
    if kind is not None and backend != _BACKENDS[kind]:
        raise ValueError(
            f"Expected the backend {_BACKENDS[kind]} for "
            f"distribute={kind}. Received: KERAS_BACKEND={backend}"
        )


class Devices:
    """What a recipe is trained on.

    Args:
        kind: `distribute` of a recipe.
        compiled: `jit_compile` of a recipe.

    Attributes:
        count: Number of devices that share a batch.
        processes: Number of processes that do.
        is_chief: Whether this process writes the files of the run.
        model: Class of the models that they train.

    Raises:
        ValueError: If the backend is not the one of this kind.
    """

    def __init__(self, kind, compiled="auto"):
        self.count = 1
        self.processes = 1
        self.is_chief = True
        self.model = _model(compiled)
        self._strategy = None
        self._distribution = None
        if kind is None:
            return
        check_backend(kind)
        if kind == "data_parallel":
            self._distribution = keras.distribution.DataParallel()
            self.count = self._distribution.device_mesh.devices.size
        else:
            self._strategy = _strategy(kind)
            self.count = self._strategy.num_replicas_in_sync
            self._join()

    @contextlib.contextmanager
    def scope(self):
        """Variables that are made in here are on every device."""
        if self._strategy:
            with self._strategy.scope():
                yield
        elif self._distribution:
            before = keras.distribution.distribution()
            keras.distribution.set_distribution(self._distribution)
            try:
                yield
            finally:
                keras.distribution.set_distribution(before)
        else:
            yield

    def describe(self):
        """The devices in words, such as `"2 x NVIDIA H100"`."""
        name = _accelerator()
        if name is None:
            return processor()
        return f"{self.count} x {name}"

    def _join(self):
        from zoo.training import multi_worker

        cluster = self._strategy.cluster_resolver
        if cluster and "worker" in cluster.cluster_spec().jobs:
            self.processes = cluster.cluster_spec().num_tasks("worker")
            self.is_chief = cluster.task_id == 0
            self.model = multi_worker.MultiWorkerModel

    def prepare(self, network):
        """Lets the normalisations of a network see whole batches."""
        # JAX computes over the whole batch as it is.
        if self._strategy and self.count > 1:
            for layer in network.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True


def _model(compiled):
    """Class of the models to train on one device."""
    if compiled is True and keras.backend.backend() == "torch":
        from zoo.training.compiled import CompiledModel

        return CompiledModel
    return keras.Model


def _accelerator():
    """Name of the first accelerator of the backend, or `None`."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if keras.backend.backend() == "torch":
        import torch

        gpus = torch.cuda.is_available()
        return torch.cuda.get_device_name(0) if gpus else None
    import tensorflow as tf

    found = tf.config.list_logical_devices("TPU")
    if found:
        return "TPU"
    found = tf.config.list_physical_devices("GPU")
    if not found:
        return None
    details = tf.config.experimental.get_device_details(found[0])
    return details.get("device_name", "GPU")


def _strategy(kind):
    import tensorflow as tf

    if kind == "mirrored":
        return tf.distribute.MirroredStrategy()
    if kind == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)
