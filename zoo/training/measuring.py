"""How good a trained network is: accuracy, loss, calibration."""

import numpy as np

from zoo.data.encoded import named_errors


@named_errors()
def evaluate(model, dataset, preprocessing, batch_size=256):
    """Measures a classifier on the test split.

    Args:
        model: `keras.Model` from pixels to probabilities, such as
            `zoo.training.network.on_pixels` makes.
        dataset: `zoo.data.dataset.Dataset`.
        preprocessing: `Preprocessing` that the model was made with, which
            crops images of any size.
        batch_size: Integer, number of images at a time.

    Returns:
        Dict of `"top1"`, `"top5"`, `"loss"` (mean cross-entropy in nats),
        `"ece"` (expected calibration error), `"images"` (their number),
        `"per_class"` (a dict from name to accuracy) and `"confusion"`, whose
        rows are the true classes and columns the predicted ones, as lists of
        counts. Accuracies are from 0 to 1.

    Raises:
        ValueError: If the network gives NaN, or an image cannot be read.
    """
    return measures(
        _probabilities(model, dataset, preprocessing, batch_size),
        dataset.y_test,
        dataset.class_names,
    )


def measures(probabilities, labels, class_names):
    """What `evaluate` returns, from probabilities.

    Example:

    >>> import numpy as np
    >>> certain = np.eye(3)[[0, 1, 1]]
    >>> found = measures(certain, np.array([0, 1, 2]), "abc")
    >>> found["confusion"], round(found["top1"], 2), round(found["ece"], 2)
    ([[1, 0, 0], [0, 1, 0], [0, 1, 0]], 0.67, 0.33)

    Args:
        probabilities: Array `(images, classes)`.
        labels: Integer array `(images,)`.
        class_names: Sequence of the names of the classes.
    """
    probabilities = np.asarray(probabilities, "float64")
    if not np.isfinite(probabilities).all():
        raise ValueError(
            "Expected probabilities, not the NaN of a network whose training "
            f"diverged. Received: {np.isnan(probabilities).any(-1).sum()} of "
            f"{len(probabilities)} images with NaN"
        )
    places = np.arange(len(labels))
    of_label = probabilities[places, labels]
    # Ties count against the label.
    rank = (probabilities >= of_label[:, None]).sum(-1)
    predicted = probabilities.argmax(-1)
    confusion = np.zeros((len(class_names),) * 2, int)
    np.add.at(confusion, (labels, predicted), 1)
    counts = np.maximum(confusion.sum(1), 1)
    return {
        "images": len(labels),
        "top1": float((predicted == labels).mean()),
        "top5": float((rank <= 5).mean()),
        "loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        "ece": calibration_error(probabilities.max(-1), predicted == labels),
        "per_class": {
            name: float(hits / count)
            for name, hits, count in zip(
                class_names, confusion.diagonal(), counts
            )
        },
        "confusion": confusion.tolist(),
    }


def calibration_error(confidence, correct, bins=15):
    """Expected calibration error: how far confidence is from accuracy.

    Args:
        confidence: Array `(images,)` of the probability of the predicted
            class.
        correct: Boolean array `(images,)`.
        bins: Integer, number of bins of equal width from 0 to 1.

    Returns:
        The mean over the images of the difference between mean confidence and
        accuracy in their bin.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(place, confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def _probabilities(model, dataset, preprocessing, batch_size):
    if not dataset.encoded:
        return model.predict(dataset.x_test, batch_size=batch_size, verbose=0)
    from zoo.data import decoding

    images = decoding.test_batches(dataset, preprocessing, batch_size).map(
        lambda image, label: image
    )
    return model.predict(images, verbose=0)
