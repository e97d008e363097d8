"""Measure what the attention of a network costs in time.

The network is compared with the same one with plain convolutions. Both take
turns, and a ratio is the median over rounds of the ratio within a round.
Measured is `predict_on_batch` and `train_on_batch`, Keras's own work included,
on random images; weights do not matter.
"""

import statistics
import time
import types

from aw_keras.cli import networks
from aw_keras.cli.output import positive_integer, print_table, track

EXAMPLES = """\
aw-keras benchmark AWResNet20 --batch 128
aw-keras benchmark model.keras --rounds 20 --json
"""

_WARM_UP = 2


def add_arguments(parser):
    networks.add_model(parser)
    parser.add_argument(
        "--batch",
        type=positive_integer,
        default=8,
        help="images at once (%(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=positive_integer,
        default=9,
        help="measurements (%(default)s)",
    )


def run(options):
    model = networks.open_any(options.model)
    import keras

    plain = _plain_companion(model)
    images = _random_images(model, options.batch)
    steps = {"inference": _inference, "training step": _training_step}
    return {
        "model": model.name,
        "batch": options.batch,
        "rounds": options.rounds,
        "backend": keras.backend.backend(),
        "input_shape": list(images.shape),
        "dtype": model.dtype_policy.name,
        "measurements": {
            name: compare(
                step(model, images), step(plain, images), options.rounds
            )
            for name, step in steps.items()
        },
    }


def _plain_companion(model):
    from aw_keras import convert

    # Any attention will do: time does not depend on the values.
    half = types.SimpleNamespace(mean=0.5)
    layers = convert.attentional_layers(model)
    return convert.fold_layers(model, dict.fromkeys(layers, half))


def _random_images(model, batch):
    shapes = [tensor.shape[1:] for tensor in model.inputs]
    if len(shapes) != 1 or None in shapes[0]:
        raise ValueError(
            "Expected a network with one input of a known size. Received: "
            f"{model.name} with inputs of the shapes {shapes}"
        )
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, *shapes[0])).astype("float32")


def _inference(model, images):
    return lambda: model.predict_on_batch(images)


def _training_step(model, images):
    import keras
    import numpy as np

    # A rate of 0 keeps the values, and with them the time, as they are.
    model.compile(keras.optimizers.SGD(0.0), "mse")
    targets = keras.tree.map_structure(
        lambda x: np.zeros(x.shape, "float32"), model.predict_on_batch(images)
    )
    return lambda: model.train_on_batch(images, targets)


def compare(subject, reference, rounds, clock=time.perf_counter):
    """Times two functions in turn.

    Args:
        subject: Function without arguments.
        reference: Function without arguments to compare it with.
        rounds: How often each is timed, after it has run twice.
        clock: Function that returns seconds.

    Returns:
        A dict of medians in milliseconds, `ms` and `plain_ms`, the median
        `ratio` and its range, `ratio_range`.
    """

    def seconds(function):
        start = clock()
        function()
        return clock() - start

    for _ in range(_WARM_UP):
        subject(), reference()
    pairs = []
    for turn in track(range(rounds), "Measuring"):
        # Neither always runs behind the other, which fills the caches.
        first, second = (subject, reference)[:: 1 if turn % 2 else -1]
        pair = seconds(first), seconds(second)
        pairs.append(pair[:: 1 if turn % 2 else -1])
    ratios = [subject / reference for subject, reference in pairs]
    own, plain = (1e3 * statistics.median(column) for column in zip(*pairs))
    return {
        "ms": own,
        "plain_ms": plain,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def show(result):
    print_table(
        f"{result['model']}, {result['batch']} images "
        f"{'x'.join(map(str, result['input_shape'][1:]))}, "
        f"{result['backend']}, {result['dtype']}",
        ("", ">ms", ">plain ms", ">ratio", ">from - to"),
        [
            (
                name,
                f"{row['ms']:.1f}",
                f"{row['plain_ms']:.1f}",
                f"{row['ratio']:.2f}",
                " - ".join(f"{ratio:.2f}" for ratio in row["ratio_range"]),
            )
            for name, row in result["measurements"].items()
        ],
    )
