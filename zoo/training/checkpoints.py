"""Checkpoints that survive whatever happens to the process that writes them.

A checkpoint is a NumPy archive: every variable of model and optimizer, and
what was recorded so far. Its checksums tell a damaged file, a new one replaces
nothing before it is complete, and the one before it is kept.
"""

import json
import pathlib
import warnings

import keras
import numpy as np

from aw_keras.files import replacing

KEPT = 2
_RECORD = "record"


def save(folder, model, step, record, writes=True):
    """Writes a checkpoint, and removes all but the last ones.

    Args:
        folder: `pathlib.Path`; is made if need be.
        model: Compiled and built `keras.Model`.
        step: Integer, the number of steps that were done.
        record: What `restore` gives back; JSON can express it.
        writes: Whether to write; reading the variables of a distributed model
            may need all processes.

    Raises:
        OSError: If it cannot be written. Those before it are still there.
        ValueError: If the training has diverged. Nothing is written.
    """
    arrays = dict(zip(*_named(model)))
    arrays = {k: keras.ops.convert_to_numpy(v) for k, v in arrays.items()}
    _check_finite(arrays, step, folder)
    if not writes:
        return
    arrays[_RECORD] = np.array(json.dumps({"step": step, **record}))
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{step:09d}.npz") as path:
        np.savez(path, **arrays)
    for path in _paths(folder)[KEPT:]:
        path.unlink(missing_ok=True)


def restore(folder, model):
    """Fills model and optimizer from the last checkpoint that is whole.

    Args:
        folder: `pathlib.Path`, which need not exist.
        model: Compiled and built `keras.Model`, as it was saved.

    Returns:
        The record of the checkpoint with its `"step"`, which is 0 where
        there is no checkpoint.

    Raises:
        ValueError: If there are checkpoints, but all are damaged or none fits
            the model.
    """
    damaged = []
    for path in _paths(folder):
        try:
            arrays, record = _read(path)
        # What NumPy and zipfile raise for damaged files depends on where the
        # damage is.
        except Exception as error:
            damaged.append((path, error))
            continue
        for other, error in damaged:
            warnings.warn(
                f"{other} is damaged and passed over ({error}).", stacklevel=2
            )
        _fill(model, arrays, path)
        return record
    if damaged:
        raise ValueError(
            "Expected a checkpoint that is whole. Remove the folder to begin "
            "again. Received: "
            + ", ".join(f"{path} ({error})" for path, error in damaged)
        )
    return {"step": 0}


def _paths(folder):
    return sorted(pathlib.Path(folder).glob("*.npz"), reverse=True)


def _read(path):
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    record = json.loads(str(arrays.pop(_RECORD)))
    if not record["step"] >= 0:
        raise ValueError(f"step={record['step']}")
    return arrays, record


def _check_finite(arrays, step, folder):
    """Refuses to keep what no training can go on from."""
    broken = [k for k, v in arrays.items() if not np.isfinite(v).all()]
    if broken:
        last = next(iter(_paths(folder)), None)
        raise ValueError(
            "Expected finite weights, but the training has diverged: a lower "
            "`learning_rate`, or `clip_norm`, may help. Received: "
            f"{len(broken)} variables with infinity or NaN at step {step}; the "
            f"last good checkpoint is {last or 'none'}"
        )


def _named(model):
    variables = [*model.variables, *model.optimizer.variables]
    names = [f"{i:04d} {v.path}" for i, v in enumerate(variables)]
    return names, variables


def _fill(model, arrays, path):
    _, variables = _named(model)
    values = list(arrays.values())
    shapes = [tuple(variable.shape) for variable in variables]
    if [value.shape for value in values] != shapes:
        raise ValueError(
            "Expected a checkpoint of this network and optimizer. "
            f"Received: {path}"
        )
    for variable, value in zip(variables, values):
        variable.assign(value)
