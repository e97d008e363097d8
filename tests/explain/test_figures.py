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
    found = pictures(explain.plot_layer(one, "stem", images[:1]))
    _, positions, channels, *_ = found
    expected = one["stem"][0].mean(axis=(0, 1))
    np.testing.assert_allclose(channels.get_array(), expected)
    expected = one["stem"][0].mean(axis=(2, 3))
    np.testing.assert_allclose(positions.get_array(), expected)


@pytest.mark.parametrize("count", [1, COUNT])
@pytest.mark.parametrize("name", ["stem", "depthwise"])
def test_a_layer_has_one_scale(count, name, attention, images):
    one = {name: attention[name][:count]}
    figure = explain.plot_layer(one, name, images[:count])
    assert figure.get_suptitle() == name  # It does vary.
    maps = [image for image in pictures(figure) if image.get_array().ndim == 2]
    assert len({image.get_clim() for image in maps}) == 1
    assert len(bars(figure)) == 1


def bars(figure):
    """The colour bars."""
    return [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]


@pytest.fixture(scope="module")
def constant():
    """Attention that differs in the fourth decimal, which is noise."""
    rng = np.random.default_rng(3)
    return {
        "stem": 0.4992 + rng.uniform(0, 3e-4, (COUNT, 3, 3, 4, 6)),
        "depthwise": 0.4992 + rng.uniform(0, 3e-4, (COUNT, 3, 3, 1, 6)),
    }


def assert_pale(image):
    """Whether a picture's values are close together on their scale."""
    low, high = image.get_clim()
    assert np.ptp(image.get_array()) < 0.05 * (high - low)


def test_noise_is_not_drawn_as_a_difference(constant, images):
    for count, says in ((COUNT, "does not vary with the image"), (1, "0.499")):
        chosen = {name: maps[:count] for name, maps in constant.items()}
        for name in chosen:
            figure = explain.plot_layer(chosen, name, images[:count])
            assert says in figure.get_suptitle()
            for image in pictures(figure):
                if image.get_array().ndim == 2:
                    assert_pale(image)


def test_layers_that_do_not_vary_are_said_to_be_so(constant, attention):
    figure = explain.plot_layers({**attention, "even": constant["stem"]})
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert [label for label in labels if "all 0.499" in label] == [
        "4x6, all 0.499"
    ]
    for image in pictures(explain.plot_layers(constant)):
        if image.get_array().shape in ((4, 6), (9, 6)):
            assert_pale(image)
    figure = explain.plot_variation({**attention, "even": constant["stem"]})
    axis, rows, *_ = drawn(figure)
    assert [text.get_text() for text in axis.texts] == ["does not vary"]
    assert [text.get_position()[0] for text in axis.texts] == [2]
    figure = explain.plot_variation(constant)
    axis, rows, *_ = drawn(figure)
    assert len(axis.texts) == 2
    assert max(bar.get_height() for bar in axis.patches) < (
        0.05 * axis.get_ylim()[1]
    )
    assert_pale(rows.images[0])


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
