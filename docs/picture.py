"""Draws the picture of the README: what attention in convolutions rescales.

    python -m docs.picture --data cifar10

Its left is a scheme, its right the attention of a trained AW-ResNet-20 in four
test images. `--data` is what `zoo.data.sources.load` takes.
"""

import argparse
import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from aw_keras import explain
from aw_keras.applications import AWResNet20, cifar_resnet
from zoo.data import sources

PATH = pathlib.Path(__file__).with_name("attention.png")
CLASSES = ("airplane", "cat", "frog", "ship")

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "0.45"
_CENTRED = {"ha": "center", "va": "center", "fontsize": 12}
_PAPER = {"facecolor": "white", "edgecolor": "none"}

#: Name of the layer, kernel, what rescales the output, and what depends on x.
_SCHEME = (
    ("Conv2D", "K", "", "nothing depends on the image"),
    (
        "SE, CBAM",
        "K",
        "× a(x)",
        "a number for each channel\n(CBAM: and position)",
    ),
    ("AWConv2D", "K + A(x) * K", "", "a number for each weight"),
)


def draw(images, titles, attention, name):
    """The picture.

    Args:
        images: uint8 array `(N, height, width, 3)`.
        titles: What to call each of them.
        attention: What `explain.kernel_attention` returns for them.
        name: Name of the layer to show.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    _draw_scheme(left.subplots())
    _draw_maps(right, images, titles, attention[name], name)
    return figure


def _draw_scheme(axis):
    axis.set(xlim=(0, 10), ylim=(0, 3))
    axis.set_axis_off()
    for row, (layer, kernel, after, amount) in enumerate(_SCHEME):
        y = 2.7 - row
        colour = _ORANGE if "A" in kernel or after else _GREY
        axis.text(0, y, layer, va="center", weight="bold", fontsize=12)
        axis.text(2.8, y, "x", **_CENTRED)
        axis.text(9.8, y, "y", **_CENTRED)
        _arrow(axis, 3.0, 3.8, y)
        _arrow(axis, 6.5, 9.6, y)
        _box(axis, 3.8, y, kernel, colour if "A" in kernel else "black")
        if after:
            axis.text(8.0, y, after, **_CENTRED, color=colour, bbox=_PAPER)
        axis.text(3.8, y - 0.26, amount, va="top", fontsize=9, color=colour)


def _arrow(axis, start, end, y):
    style = {"arrowstyle": "->", "color": _GREY}
    axis.annotate("", (end, y), (start, y), arrowprops=style)


def _box(axis, x, y, text, colour):
    box = Rectangle((x, y - 0.18), 2.7, 0.36, fill=False, edgecolor=_BLUE)
    axis.add_patch(box)
    axis.text(x + 1.35, y, text, **_CENTRED, color=colour)


def _draw_maps(figure, images, titles, maps, name):
    pictures = maps.mean(axis=(1, 2))
    pictures = pictures - pictures.mean(axis=0)
    extreme = np.abs(pictures).max()
    figure.suptitle(f"A(x) of {name} in AW-ResNet-20", fontsize=11)
    axes = figure.subplots(2, len(images))
    for (above, below), image, title, picture in zip(
        axes.T, images, titles, pictures
    ):
        above.imshow(image, interpolation="nearest")
        above.set_title(title, fontsize=10)
        above.set_axis_off()
        shown = below.imshow(
            picture,
            cmap="PuOr_r",
            vmin=-extreme,
            vmax=extreme,
            aspect="auto",
            interpolation="nearest",
        )
        below.set(xticks=[], yticks=[])
    axes[1, 0].set_ylabel("input channels")
    axes[1, 0].set_xlabel("filters")
    figure.colorbar(shown, ax=list(axes[1]), label="less the mean", pad=0.02)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m docs.picture", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--weights", default="cifar10", metavar="NAME|PATH")
    options = parser.parse_args(arguments)
    dataset = sources.load(options.data)
    model = AWResNet20(weights=options.weights)
    labels = [dataset.class_names.index(name) for name in CLASSES]
    chosen = [np.flatnonzero(dataset.y_test == label)[0] for label in labels]
    images = dataset.x_test[chosen]
    attention = explain.kernel_attention(
        model, cifar_resnet.preprocess_input(images)
    )
    name = list(attention)[np.argmax(explain.variation(attention))]
    draw(images, CLASSES, attention, name).savefig(PATH)


if __name__ == "__main__":
    main()
