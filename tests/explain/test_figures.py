"""Figures: what is drawn is what was computed, and all of it fits."""

import io
import warnings

import numpy as np
import pytest

from aw_keras import explain
from aw_keras.explain import variation

COUNT = 3


@pytest.fixture(scope="module")
def attention():
    rng = np.random.default_rng(0)
    return {
        "stem": rng.uniform(size=(COUNT, 3, 3, 4, 6)),
        "depthwise": rng.uniform(size=(COUNT, 3, 3, 1, 6)),
    }


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (COUNT, 8, 8, 3), "uint8")


@pytest.fixture(scope="module")
def heat():
    return np.random.default_rng(2).uniform(size=(COUNT, 8, 8))


def drawn(figure):
    """The axes with something in them, once the figure could be drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as a layout that does not fit
        figure.savefig(io.BytesIO(), dpi=40)
    return [axis for axis in figure.axes if axis.has_data()]


def pictures(figure):
    return [image for axis in drawn(figure) for image in axis.images]


def test_variation(attention):
    bars, rows, *_ = drawn(explain.plot_variation(attention, ["a", "b", "c"]))
    heights = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(heights, variation(attention))
    assert [text.get_text() for text in rows.get_yticklabels()] == list("abc")
    assert rows.images[0].get_array().shape == (COUNT, 2)


def test_layers(attention):
    stem, depthwise, *_ = pictures(explain.plot_layers(attention))
    expected = attention["stem"].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(stem.get_array(), expected)
    assert depthwise.get_array().shape == (9, 6)
    assert stem.get_clim() == depthwise.get_clim()


def test_layer(attention, images):
    found = pictures(explain.plot_layer(attention, "stem", images))
    assert len(found) >= 3 * COUNT
    differences = np.stack(
        [image.get_array() for image in found[2 * COUNT : 3 * COUNT]]
    )
    np.testing.assert_allclose(differences.mean(axis=0), 0, atol=1e-12)
    assert np.ptp(differences) > 0
    low, high = found[2 * COUNT].get_clim()
    assert low == -high


def test_layer_of_one_image(attention, images):
    one = {"stem": attention["stem"][:1]}
    _, _, channels, *_ = pictures(explain.plot_layer(one, "stem", images[:1]))
    expected = one["stem"][0].mean(axis=(0, 1))
    np.testing.assert_allclose(channels.get_array(), expected)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_grad_cam(dtype, images, heat):
    figure = explain.plot_grad_cam(images.astype(dtype), heat, list("abc"))
    axes = drawn(figure)
    assert len(axes) == 2 * COUNT
    np.testing.assert_allclose(axes[1].images[-1].get_array(), heat[0])
    assert [axis.get_title() for axis in axes[::2]] == list("abc")


def test_ablation():
    layer = explain.AblatedLayer("stem", 0.1, 0.5)
    figure = explain.plot_ablation(explain.Ablation((layer,), 100, 0.75, 0.25))
    (axis,) = drawn(figure)
    widths = [bar.get_width() for bar in axis.patches]
    np.testing.assert_allclose(widths, [-25, -50])


@pytest.mark.parametrize("count", [1, COUNT])
def test_overview(count, attention, images, heat):
    chosen = {name: maps[:count] for name, maps in attention.items()}
    figure = explain.plot_overview(images[:count], heat[:count], chosen)
    titles = [panel.get_suptitle() for panel in figure.subfigs]
    assert len(titles) == (3 if count > 1 else 2)
    assert len(drawn(figure)) >= 2 * count + len(attention)


def test_overview_without_attention(images, heat):
    assert len(drawn(explain.plot_overview(images, heat, {}))) == 2 * COUNT


def test_errors(attention, images, heat):
    with pytest.raises(ValueError, match="two or more images"):
        explain.plot_variation({"stem": attention["stem"][:1]})
    with pytest.raises(ValueError, match="one of .*stem"):
        explain.plot_layer(attention, "nothing", images)
    with pytest.raises(ValueError, match="`images` to have as many"):
        explain.plot_grad_cam(images[:1], heat)
    with pytest.raises(ValueError, match="`titles` to have as many"):
        explain.plot_variation(attention, ["a"])
