"""Figures of attention maps and heat maps.

Every function returns a `matplotlib.figure.Figure` that belongs to no window
and no global state. Colours are told apart by the colour-blind, and in a figure
all that shows one quantity has one scale, which is never so narrow that noise
looks like a difference; what does not vary is said not to.
"""

import math

import numpy as np

from aw_keras.explain.attention import distances, variation

_SEQUENTIAL = "cividis"
_DIVERGING = "PuOr_r"
_HEAT = "inferno"
_COLOUR = "#0072B2"
_GREY = "0.6"

#: Attention is from 0 to 1. What differs by less than the first does not vary,
#: and colours span the second at least.
_LEAST = 1e-3
_SPAN = 0.02

_SMALL = 8  # points, for the names of layers and images
_WIDTH = 10  # inches
_COLUMNS = 6


def plot_variation(attention, titles=None):
    """Which layers' attention depends on the image, and for which images.

    The bars are the standard deviation of every layer's attention over the
    images; below is how far each image's attention is from the mean. All are
    root mean squares over the elements of the kernel.

    Args:
        attention: What `kernel_attention` returns for two or more images.
        titles: What to call the images. Defaults to their numbers.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is one image only, or not a title for each.
    """
    count = _count(attention)
    if count < 2:
        raise ValueError(
            "Expected the attention of two or more images, which can differ. "
            "Received: one image"
        )
    figure = _figure(_variation_height(count))
    _draw_variation(figure, attention, _checked_titles(titles, count))
    return figure


def plot_layers(attention):
    """A heat map of every layer's attention, the mean over the images.

    Rows are the kernel's input channels and columns its filters, where the
    positions in the kernel are averaged over; of a depthwise convolution, rows
    are the positions.

    Args:
        attention: What `kernel_attention` returns.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = _figure(_layers_height(attention))
    _draw_layers(figure, attention)
    return figure


def plot_layer(attention, name, images, titles=None):
    """One layer's attention for every image.

    Below each image is the mean attention at every position in the kernel, and
    that of input channels (rows) for filters (columns): how they differ from
    the mean over the images, if there are several. Colours mean the same
    everywhere.

    Args:
        attention: What `kernel_attention` returns.
        name: Name of a layer in it.
        images: Array or list of the images, channels last.
        titles: What to call the images. Defaults to their numbers.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no such layer, or not an image and a title for
            each map.
    """
    if name not in attention:
        raise ValueError(
            f"Expected `name` to be one of {list(attention)}. "
            f"Received: name={name}"
        )
    maps = attention[name]
    _check_count("images", images, len(maps))
    titles = _checked_titles(titles, len(maps))
    figure = _figure(6.5, max(5, 1.8 * len(maps) + 1.2))
    figure.suptitle(f"{name}{_constancy(maps)}")
    rows = figure.subplots(
        3, len(maps), squeeze=False, height_ratios=(1, 1, 1.2)
    )
    for axis, image, title in zip(rows[0], images, titles):
        _draw_image(axis, image, title)
    positions = maps.mean(axis=(3, 4))
    pictures = np.stack([_picture(sample) for sample in maps])
    colours, label = _SEQUENTIAL, "attention"
    limits = _limits(positions, pictures)
    if len(maps) > 1:
        positions = positions - positions.mean(axis=0)
        pictures = pictures - pictures.mean(axis=0)
        colours, label = _DIVERGING, "attention less the mean over images"
        limits = _limits(pictures, -pictures)
    for axes, drawn in ((rows[1], positions), (rows[2], pictures)):
        for axis, picture in zip(axes, drawn):
            shown = _draw_map(axis, picture, colours, limits)
    rows[1, 0].set_ylabel("mean at each\nposition")
    rows[2, 0].set_ylabel(
        "positions" if maps.shape[3] == 1 else "input channels"
    )
    figure.colorbar(
        shown, ax=list(rows[1:].ravel()), label=label, fraction=0.03
    )
    return figure


def plot_grad_cam(images, heat, titles=None):
    """Images, and beside each what speaks for its class.

    Args:
        images: Array or list of the images, channels last.
        heat: What `grad_cam` returns for them.
        titles: What to write over the images. Defaults to their numbers.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is not an image and a title for each heat map.
    """
    _check_count("images", images, len(heat))
    titles = _checked_titles(titles, len(heat))
    figure = _figure(_images_height(len(heat)))
    _draw_images(figure, images, heat, titles)
    return figure


def plot_ablation(ablation):
    """The accuracy with the attention of one layer after the other fixed.

    Args:
        ablation: What `ablate` returns.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    names = [layer.name for layer in ablation.layers] + ["every layer"]
    accuracies = [layer.accuracy for layer in ablation.layers]
    accuracies = 100 * np.array([*accuracies, ablation.all_fixed])
    figure = _figure(1.4 + 0.24 * len(names), 7)
    axis = figure.subplots()
    places = range(len(names))
    change = accuracies - 100 * ablation.accuracy
    axis.barh(places, change, color=[_COLOUR] * (len(names) - 1) + [_GREY])
    axis.set_yticks(places, names, fontsize=_SMALL)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=1)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.set_xlabel("change of the accuracy, percentage points")
    axis.set_title(
        f"Mean attention in one layer, {100 * ablation.accuracy:.2f} % as it "
        f"is ({ablation.samples:,} samples)",
        fontsize=10,
    )
    return figure


def plot_overview(images, heat, attention, titles=None):
    """Grad-CAM, variation over the images and every layer, in one figure.

    Args:
        images: Array or list of the images, channels last.
        heat: What `grad_cam` returns for them.
        attention: What `kernel_attention` returns for them; an empty dict for
            a network without AW-convolutions.
        titles: What to call the images. Defaults to their numbers.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is not an image and a title for each heat map.
    """
    count = len(heat)
    _check_count("images", images, count)
    titles = _checked_titles(titles, count)
    parts = [
        (_images_height(count), _draw_images, (images, heat, titles)),
    ]
    if attention and count > 1:
        parts.append(
            (_variation_height(count), _draw_variation, (attention, titles))
        )
    if attention:
        parts.append((_layers_height(attention), _draw_layers, (attention,)))
    heights = [height for height, _, _ in parts]
    figure = _figure(sum(heights))
    panels = figure.subfigures(len(parts), squeeze=False, height_ratios=heights)
    for panel, (_, draw, arguments) in zip(panels[:, 0], parts):
        draw(panel, *arguments)
    return figure


def _figure(height, width=_WIDTH):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _count(attention):
    return len(next(iter(attention.values())))


def _checked_titles(titles, count):
    titles = [str(i) for i in range(count)] if titles is None else list(titles)
    _check_count("titles", titles, count)
    return titles


def _check_count(name, values, count):
    if len(values) != count:
        raise ValueError(
            f"Expected `{name}` to have as many items as there are maps, "
            f"{count}. Received: {len(values)}"
        )


def _limits(*pictures):
    """The least and the largest value of pictures, not too close together."""
    low = min(float(np.min(picture)) for picture in pictures)
    high = max(float(np.max(picture)) for picture in pictures)
    lacking = max(_SPAN - (high - low), 0) / 2
    return low - lacking, high + lacking


def _constancy(maps):
    """What to say of attention `(N, h, w, Ck, C2)` that does not vary."""
    if len(maps) == 1:
        return _evenness(maps)
    is_constant = variation({"": maps})[0] < _LEAST
    return ", which does not vary with the image" if is_constant else ""


def _evenness(picture):
    """What to say of a picture that has one value."""
    if np.ptp(picture) >= _LEAST:
        return ""
    return f", all {np.mean(picture):.3f}"


def _picture(kernel):
    """A map `(h, w, Ck, C2)` as an image."""
    h, w, channels, filters = kernel.shape
    if channels == 1:
        return kernel.reshape(h * w, filters)
    return kernel.mean(axis=(0, 1))


def _variation_height(count):
    return 4.2 + 0.24 * count


def _draw_variation(figure, attention, titles):
    figure.suptitle("How much the attention differs between images")
    bars, rows = figure.subplots(
        2, sharex=True, height_ratios=(1.6, 0.5 + 0.24 * len(titles))
    )
    places = np.arange(len(attention))
    deviations, apart = variation(attention), distances(attention)
    _, top = _limits([[0.0]], apart)
    bars.bar(places, deviations, color=_COLOUR)
    for place, deviation in zip(places, deviations):
        if deviation < _LEAST:
            bars.text(
                *(place, 0.03 * top, "does not vary"),
                **{"rotation": 90, "ha": "center", "va": "bottom"},
                **{"fontsize": _SMALL, "color": _GREY},
            )
    bars.set_ylim(0, 1.05 * top)
    bars.set_ylabel("deviation\nover images")
    bars.grid(axis="y", alpha=0.3)
    bars.set_axisbelow(True)
    picture = _draw_map(rows, apart, _SEQUENTIAL, (0, top))
    rows.set_yticks(range(len(titles)), titles, fontsize=_SMALL)
    rows.set_xticks(
        places,
        list(attention),
        rotation=90,
        fontsize=_SMALL if len(places) <= 60 else 5,
    )
    figure.colorbar(picture, ax=rows, label="distance\nfrom mean")


def _layers_height(attention):
    return 0.8 + 1.5 * math.ceil(len(attention) / _COLUMNS)


def _draw_layers(figure, attention):
    figure.suptitle("Mean attention: input channels (rows), filters (columns)")
    pictures = [_picture(maps.mean(axis=0)) for maps in attention.values()]
    limits = _limits(*pictures)
    rows = math.ceil(len(pictures) / _COLUMNS)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis, name, picture in zip(axes, attention, pictures):
        drawn = _draw_map(axis, picture, _SEQUENTIAL, limits)
        axis.set_title(name, fontsize=_SMALL)
        size = "x".join(map(str, picture.shape))
        axis.set_xlabel(f"{size}{_evenness(picture)}", fontsize=_SMALL)
    for axis in axes[len(pictures) :]:
        axis.set_axis_off()
    figure.colorbar(drawn, ax=list(axes), label="attention", fraction=0.03)


def _draw_map(axis, picture, colours, limits):
    low, high = limits
    axis.set_xticks([])
    axis.set_yticks([])
    return axis.imshow(
        picture,
        cmap=colours,
        aspect="auto",
        interpolation="nearest",
        vmin=low,
        vmax=high,
    )


_PAIRS = 3  # of an image and its heat map, in a row


def _images_height(count):
    return 0.6 + 2.0 * math.ceil(count / _PAIRS)


def _draw_images(figure, images, heat, titles):
    figure.suptitle("Grad-CAM: what speaks for the class")
    rows = math.ceil(len(heat) / _PAIRS)
    axes = figure.subplots(rows, 2 * _PAIRS, squeeze=False).ravel()
    for i, (image, warmth, title) in enumerate(zip(images, heat, titles)):
        _draw_image(axes[2 * i], image, title)
        # In grey, so that all colour is heat.
        grey = np.asarray(image).mean(axis=-1)
        _draw_image(axes[2 * i + 1], grey)
        axes[2 * i + 1].imshow(
            warmth, cmap=_HEAT, alpha=0.55, vmin=0, vmax=1, interpolation="none"
        )
    for axis in axes[2 * len(heat) :]:
        axis.set_axis_off()


def _draw_image(axis, image, title=""):
    image = np.asarray(image)
    if image.dtype != np.uint8:
        # Whatever the preprocessing was: what is least dark, largest bright.
        span = np.ptp(image) or 1.0
        image = (image - image.min()) / span
    axis.imshow(image, cmap="gray", interpolation="nearest")
    axis.set_title(title, fontsize=_SMALL)
    axis.set_axis_off()
