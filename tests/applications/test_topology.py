"""The residual topology without a framework: what it asks its toolkit for."""

import pathlib
import subprocess
import sys

import pytest

from aw_keras.applications import topology
from aw_keras.applications.topology import Blocks, plan_stages, residual_stages


class Recorder:
    """A toolkit whose tensors are `(channels, strides)`."""

    def __init__(self):
        self.layers = {}

    def channels(self, x):
        return x[0]

    def conv(self, x, filters, size, name, strides=1, padding="same"):
        self.layers[name] = ("plain", size, strides, padding)
        return filters, x[1] * strides

    def aw_conv(self, x, filters, size, name, strides=1, padding="same"):
        self.layers[name] = ("aw", size, strides, padding)
        return filters, x[1] * strides

    def norm(self, x, name):
        return x

    relu = norm

    def add(self, tensors, name):
        first, second = tensors
        assert first == second
        return first

    def zero_pad(self, x, padding, name):
        self.layers[name] = ("pad", padding)
        return x

    def max_pool(self, x, size, strides, name):
        return x[0], x[1] * strides

    def attention(self, x, kind, name):
        self.layers[name] = kind
        return x

    def identity_shortcut(self, x, filters, strides, name, centered=False):
        kind = "centered" if centered else "identity"
        self.layers[name] = (kind, strides)
        return filters, x[1] * strides


def record(stages, blocks, x=(64, 4)):
    toolkit = Recorder()
    return toolkit.layers, residual_stages(toolkit, x, stages, blocks)


def plan(conv="plain", attention=None, aw_stages=None, blocks=(1, 2, 1)):
    return plan_stages(
        (64, 128, 256), blocks, (1, 2, 2), conv, attention, aw_stages
    )


def kinds(layers):
    """The kind of the 3x3 convolutions of each block."""
    return {
        name.removesuffix("_2_conv"): layers[name][0]
        for name in layers
        if name.endswith("_2_conv")
    }


def test_imports_no_framework():
    """The detection backbone uses it without Keras 3."""
    source = pathlib.Path(topology.__file__).read_text()
    script = "import sys\nsys.modules['__main__'].__file__ = 'x'\n"
    # With this name, the package imports what it needs when it needs it.
    script += f"sys.argv[0] = 'aw-keras'\n{source}\n"
    script += "print({'keras', 'tf_keras', 'tensorflow'} & set(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True
    ).stdout
    assert printed.decode().strip() == "set()"


@pytest.mark.parametrize("bottleneck", [False, True])
def test_levels_have_the_strides_of_their_stage(bottleneck):
    expansion = 4 if bottleneck else 1
    _, outputs = record(plan(), Blocks(bottleneck))
    assert outputs == {
        2: (64 * expansion, 4),
        3: (128 * expansion, 8),
        4: (256 * expansion, 16),
    }


def test_stems():
    assert topology.imagenet_stem(Recorder(), (3, 1)) == (64, 4)
    assert topology.cifar_stem(Recorder(), (3, 1)) == (16, 1)


@pytest.mark.parametrize(
    "conv, aw_stages, expected",
    [
        ("plain", None, "plain plain plain plain"),
        ("aw", None, "aw aw aw aw"),
        (("plain", "aw", "plain"), None, "plain aw aw plain"),
        ("aw", (2, 4), "aw plain plain aw"),
        (["aw", "aw", "plain"], [3], "plain aw aw plain"),
        ("aw", (), "plain plain plain plain"),
    ],
)
def test_convolutions_of_stages(conv, aw_stages, expected):
    layers, _ = record(plan(conv, aw_stages=aw_stages), Blocks(bottleneck=True))
    names = ["conv2_block1", "conv3_block1", "conv3_block2", "conv4_block1"]
    assert kinds(layers) == dict(zip(names, expected.split()))


def test_pointwise_convolutions_stay_plain():
    layers, _ = record(plan("aw"), Blocks(bottleneck=True))
    plain = {name for name in layers if layers[name][0] == "plain"}
    assert {layers[name][1] for name in plain} == {1}
    assert {layers[name][1] for name in set(layers) - plain} == {3}


@pytest.mark.parametrize("stride_in_3x3", [False, True])
def test_place_of_the_strides(stride_in_3x3):
    layers, _ = record(plan(), Blocks(True, stride_in_3x3=stride_in_3x3))
    strides = [layers[f"conv3_block1_{n}_conv"][2] for n in (0, 1, 2, 3)]
    assert strides == ([2, 1, 2, 1] if stride_in_3x3 else [2, 2, 1, 1])


def test_shortcuts_only_where_the_shape_changes():
    layers, _ = record(plan(), Blocks())
    assert [name for name in layers if "_0_" in name] == [
        "conv3_block1_0_conv",
        "conv4_block1_0_conv",
    ]
    layers, _ = record(plan(), Blocks(shortcut="identity"))
    assert layers["conv4_block1_0_shortcut"] == ("identity", 2)
    layers, _ = record(plan(), Blocks(bottleneck=True))
    assert layers["conv2_block1_0_conv"] == ("plain", 1, 1, "same")


def test_where_channels_of_zeros_are():
    layers, _ = record(plan(), Blocks(shortcut="centered"))
    assert layers["conv3_block1_0_shortcut"] == ("centered", 2)
    assert "conv3_block2_0_shortcut" not in layers


@pytest.mark.parametrize("bottleneck", [False, True])
def test_symmetric_padding_is_of_strided_convolutions_only(bottleneck):
    place = 2 if bottleneck else 1

    def paddings(conv):
        layers, _ = record(
            plan(conv), Blocks(bottleneck, True, padding="symmetric")
        )
        pads = {name: x for name, x in layers.items() if x[0] == "pad"}
        return pads, {
            name: x[3]
            for name, x in layers.items()
            if x[0] != "pad" and x[3] != "same"
        }

    names = [f"conv{level}_block1_{place}" for level in (3, 4)]
    assert paddings("plain") == (
        {f"{name}_pad": ("pad", 1) for name in names},
        {f"{name}_conv": "valid" for name in names},
    )
    # Not in front of its attention.
    assert paddings("aw") == (
        {},
        {f"{name}_conv": "symmetric" for name in names},
    )


def test_attention_of_stages_and_after_blocks():
    layers, _ = record(
        plan(attention=(None, "se", "cbam")),
        Blocks(attention_after={"conv2_block1": "dual"}),
    )
    assert [name for name in layers if layers[name][0] not in KINDS] == [
        "conv2_block1_dual",
        "conv3_block1_se",
        "conv3_block2_se",
        "conv4_block1_cbam",
    ]


KINDS = ("plain", "aw", "identity")


@pytest.mark.parametrize(
    "arguments",
    [
        {"conv": "AW"},
        {"conv": None},
        {"conv": ("aw", "plain")},
        {"conv": 3},
        {"attention": ("se", None)},
        {"attention": 3},
        {"aw_stages": (3,)},
        {"conv": "aw", "aw_stages": (3, 5)},
    ],
)
def test_stages_that_cannot_be_planned(arguments):
    with pytest.raises(ValueError, match="(?s)Expected `.*Received: "):
        plan(**arguments)


@pytest.mark.parametrize(
    "blocks",
    [
        {"shortcut": "none"},
        {"padding": "valid"},
        {"attention_after": {"conv2_block2": "se"}},
        {"attention_after": {"conv5_block1": "se"}},
    ],
)
def test_blocks_that_cannot_be_built(blocks):
    with pytest.raises(ValueError, match="(?s)Expected `.*Received: "):
        record(plan(), Blocks(**blocks))
