"""Checkpoints: that the last whole one is found, whatever happened."""

import errno
import os

import keras
import numpy as np
import pytest

from zoo.training import checkpoints


def compiled(units=3):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
    model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def fill(model, value):
    for variable in [*model.variables, *model.optimizer.variables]:
        variable.assign(keras.ops.full(variable.shape, value, variable.dtype))


def values(model):
    return {
        float(np.unique(variable)[0])
        for variable in [*model.variables, *model.optimizer.variables]
    }


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints of the steps 2 and 3, of 1, 2 and 3."""
    model = compiled()
    for step in (1, 2, 3):
        fill(model, step)
        checkpoints.save(tmp_path, model, step, {"rows": [step]})
    return tmp_path


def test_the_last_two_are_kept(saved):
    names = sorted(path.name for path in saved.iterdir())
    assert names == ["000000002.npz", "000000003.npz"]
    model = compiled()
    assert checkpoints.restore(saved, model) == {"step": 3, "rows": [3]}
    assert values(model) == {3}


def test_no_checkpoint(tmp_path):
    model = compiled()
    before = model.get_weights()
    assert checkpoints.restore(tmp_path / "none", model) == {"step": 0}
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def damages(content):
    """A checkpoint's content, damaged in every single byte and cut short."""
    for eighths in range(8):
        yield content[: len(content) * eighths // 8]
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        yield bytes(flipped)


@pytest.mark.filterwarnings("ignore:.*is damaged and passed over")
def test_damaged_checkpoints_are_passed_over(saved):
    """Bytes that no one reads, such as times of files, go unseen."""
    last = saved / "000000003.npz"
    whole = last.read_bytes()
    model = compiled()
    steps = []
    for content in damages(whole):
        last.write_bytes(content)
        fill(model, 0)
        record = checkpoints.restore(saved, model)
        assert values(model) == {record["step"]}
        assert record["rows"] == [record["step"]]
        steps.append(record["step"])
    assert steps.count(2) > 0.75 * len(steps)


def test_damage_is_reported(saved):
    (saved / "000000003.npz").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="000000003.npz is damaged"):
        checkpoints.restore(saved, compiled())


def test_all_damaged(saved):
    for path in saved.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="Expected a checkpoint that is whole"):
        checkpoints.restore(saved, compiled())


def test_checkpoint_of_another_network(saved):
    with pytest.raises(ValueError, match="of this network.*000000003"):
        checkpoints.restore(saved, compiled(units=4))


def test_full_disk_keeps_what_was_there(saved, monkeypatch):
    def full(path, **arrays):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(checkpoints.np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(saved, compiled(), 4, {})
    after = {path.name: path.read_bytes() for path in saved.iterdir()}
    assert after == before
