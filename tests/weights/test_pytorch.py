"""Files of PyTorch: exactly what their networks compute, or an error."""

import pickle
import sys

import keras
import numpy as np
import pytest

from aw_keras import AWConv2D
from aw_keras.applications import (
    CIFARResNet,
    ImageNetResNet,
    feature_pyramid,
    from_pytorch,
)
from aw_keras.weights import load, tensors
from tests.weights.peers import (
    CIFARNet,
    compute,
    images,
    peer,
    randomised,
    stage_outputs,
    tiny_timm,
    torch,
)

SHAPE = (33, 32, 3)


@pytest.fixture(scope="module")
def cifar():
    """akamaster's network of eight layers."""
    return randomised(CIFARNet(projection=False))


@pytest.fixture
def path(cifar, tmp_path):
    """Its file, as akamaster writes it."""
    state = {f"module.{k}": v for k, v in cifar.state_dict().items()}
    path = tmp_path / "resnet8.th"
    torch.save(
        {"best_prec1": 91.0, "state_dict": state},
        path,
        _use_new_zipfile_serialization=False,
    )
    return path


def cifar_network(**arguments):
    return CIFARResNet(8, classifier_activation=None, **arguments)


def logits(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def assert_close(actual, expected):
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("conv", ["plain", "aw"])
@pytest.mark.parametrize("projection", [False, True])
def test_networks_for_cifar(projection, conv, tmp_path):
    module = randomised(CIFARNet(projection))
    path = tmp_path / "network.pt"
    torch.save(module.state_dict(), path)
    model = cifar_network(weights=path, conv=conv, input_shape=SHAPE)
    x = images(3, *SHAPE)
    assert_close(logits(model, x), compute(module, x))
    shortcut = "projection" if projection else "centered"
    receipt = model.weights_receipt
    assert receipt.arguments == {"padding": "symmetric", "shortcut": shortcut}
    assert f"shortcut='{shortcut}'" in str(receipt)
    assert receipt.adapted == receipt.left == ()
    # akamaster's images were normalised as those of ImageNet.
    red = {False: 123.675, True: 125.307}[projection]
    assert receipt.preprocessing.mean[0] == red
    assert receipt.preprocessing.size == (32, 32)
    assert receipt.dataset == "cifar10"


def check_network(module, path, size, **arguments):
    """Every stage and the logits of a network for ImageNet."""
    torch.save(module.state_dict(), path)
    model = from_pytorch(
        path, input_shape=(*size, 3), classifier_activation=None, **arguments
    )
    pyramid = feature_pyramid(model)
    outputs = keras.Model(model.input, [*pyramid.outputs, model.output])
    x = images(2, *size, 3)
    *stages, found = outputs(x, training=False)
    for maps, expected in zip(stages, stage_outputs(module, x), strict=True):
        assert_close(keras.ops.convert_to_numpy(maps), expected)
    assert_close(keras.ops.convert_to_numpy(found), compute(module, x))
    return model


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "seresnet50",
    ],
)
def test_networks_of_timm(name, tmp_path):
    """Of an even height and an odd width, which pad differently."""
    module = randomised(peer("timm").create_model(name))
    model = check_network(module, tmp_path / "network.pth", (64, 65))
    state = module.state_dict()
    sizes = {k: v.numel() for k, v in state.items() if v.is_floating_point()}
    assert model.count_params() == sum(sizes.values())


@pytest.mark.parametrize("attention", [None, "se"])
def test_warm_starts_of_attention(attention, tmp_path):
    module = tiny_timm(attention)
    path = tmp_path / "network.pth"
    model = check_network(module, path, (37, 64), conv="aw")
    assert model.weights_receipt.arguments == {
        "padding": "symmetric",
        "stride_in_3x3": True,
    }
    layer = model.get_layer("conv3_block1_2_conv")
    assert isinstance(layer, AWConv2D) and layer.padding == "symmetric"
    assert not keras.ops.convert_to_numpy(layer.attention_expand_kernel).any()
    assert keras.ops.convert_to_numpy(layer.attention_reduce_kernel).any()


def test_torchvision(tmp_path):
    resnet = peer("torchvision.models.resnet")
    module = randomised(resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1]))
    check_network(module, tmp_path / "network.pth", (64, 37))


def test_dead_channels_stay_dead(cifar, path, tmp_path):
    """A variance below the difference of the epsilons is still exact."""
    state = {k: v.clone() for k, v in cifar.state_dict().items()}
    state["bn1.running_var"][:3] = 1e-12
    path = tmp_path / "dead.pt"
    torch.save(state, path)
    image = keras.Input(SHAPE)
    model = cifar_network(weights=path, input_tensor=image)
    other = keras.models.clone_model(model)
    for layer in other.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 1.001e-5
    receipt = load(other, path)
    assert len(receipt.loaded) == len(model.weights_receipt.loaded)
    x = images(2, *SHAPE)
    np.testing.assert_allclose(logits(other, x), logits(model, x), rtol=1e-4)
    variance = other.get_layer("conv1_bn").moving_variance
    assert keras.ops.convert_to_numpy(variance).min() < 0


def write_safetensors(state, path):
    pytest.importorskip(
        "safetensors", reason="pip install 'aw-keras[safetensors]'"
    )
    from safetensors.torch import save_file

    save_file(state, path)


def write_nested(state, path):
    wrapped = {f"_orig_mod.module.{k}": v for k, v in state.items()}
    torch.save({"model": wrapped, "epoch": 3}, path)


def write_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


FORMATS = {
    ".safetensors": write_safetensors,
    ".pth": torch.save,
    ".pt": write_nested,
    ".th": write_legacy,
    ".bin": torch.save,
    ".PTH": torch.save,
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(suffix, cifar, tmp_path):
    path = tmp_path / f"weights{suffix}"
    FORMATS[suffix](cifar.state_dict(), path)
    model = cifar_network(weights=path, input_shape=SHAPE)
    x = images(2, *SHAPE)
    assert_close(logits(model, x), compute(cifar, x))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(suffix, dtype, cifar, tmp_path):
    path = tmp_path / f"weights{suffix}"
    state = cifar.state_dict()
    kernel = state["conv1.weight"].to(getattr(torch, dtype))
    FORMATS[suffix]({**state, "conv1.weight": kernel}, path)
    model = cifar_network(weights=path)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model.get_layer("conv1_conv").kernel),
        kernel.float().numpy().transpose(2, 3, 1, 0),
    )


def test_ends_that_do_not_fit_are_adapted_on_request(path):
    model = cifar_network(
        weights=path, classes=3, input_shape=(32, 32, 1), adapt=True
    )
    assert model.weights_receipt.adapted == ("conv1_conv", "predictions")
    with pytest.raises(ValueError, match=r"predictions: vars/0 \(64, 10\) for"):
        cifar_network(weights=path, classes=3)
    features = cifar_network(weights=path, include_top=False)
    assert features.weights_receipt.left == ("predictions",)


def test_the_file_says_what_it_is_of(path, tmp_path):
    model = from_pytorch(path, conv="aw")
    assert model.output_shape == (None, 10)
    assert model.weights_receipt.path == str(path)
    state = torch.load(path, weights_only=True)["state_dict"]
    headless = {k: v for k, v in state.items() if "linear" not in k}
    torch.save(headless, tmp_path / "headless.pth")
    with pytest.raises(ValueError, match="no linear.weight"):
        from_pytorch(tmp_path / "headless.pth")


def unchanged(model, path, message, **arguments):
    """Asserts that nothing is loaded, and the reason."""
    before = model.get_weights()
    with pytest.raises(ValueError, match=message) as error:
        load(model, path, **arguments)
    assert str(path) in str(error.value)
    for value, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shortcut": "centered"}, "padding='symmetric', as.*padding='same'"),
        ({"padding": "symmetric"}, "'centered', as.*shortcut='identity'"),
        ({"padding": "symmetric", "shortcut": "projection"}, "conv3_block1_0"),
        ({"depth": 14}, "conv2_block2_1_conv: not in the file"),
        ({"attention": "se"}, "conv2_block1_se: not in the file"),
    ],
)
def test_networks_that_would_compute_something_else(path, arguments, message):
    model = CIFARResNet(**{"depth": 8, **arguments})
    unchanged(model, path, f"(?s){message}")


def test_an_argument_that_the_file_contradicts(path):
    with pytest.raises(ValueError, match="with padding='same'"):
        cifar_network(weights=path, padding="same")


def test_strides_of_another_version(tmp_path):
    path = tmp_path / "network.pth"
    torch.save(tiny_timm().state_dict(), path)
    model = ImageNetResNet((1, 1, 1, 1), classes=7, padding="symmetric")
    unchanged(model, path, "stride_in_3x3=True, .*stride_in_3x3=False")


STATES = {
    "NaN": ("layer2.0.bn1.running_var", lambda v: v * np.nan, "has .* NaN"),
    "infinity": ("linear.bias", lambda v: v + np.inf, "where linear.bias has"),
    "integers": ("conv1.weight", lambda v: v.int(), "conv1.weight is of int32"),
    "complex": ("bn1.bias", lambda v: v.cfloat(), "bn1.bias is of complex64"),
    "shape": ("bn1.bias", lambda v: v[:3], r"conv1_bn: vars/1 \(3,\) for"),
    "rank": ("conv1.weight", lambda v: v[0], r"conv1_conv: vars/0 \(3, 3, 3\)"),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", STATES)
def test_tensors_that_are_refused(kind, suffix, cifar, tmp_path):
    if (kind, suffix) == ("complex", ".safetensors"):
        pytest.skip("this version of safetensors may not write it")
    name, change, message = STATES[kind]
    state = cifar.state_dict()
    path = tmp_path / f"weights{suffix}"
    FORMATS[suffix]({**state, name: change(state[name]).contiguous()}, path)
    model = cifar_network(padding="symmetric", shortcut="centered")
    unchanged(model, path, f"(?s){message}")


def test_nothing_is_read_before_the_shapes_fit(path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("read")

    monkeypatch.setattr(tensors.LazyArray, "__array__", fail)
    model = CIFARResNet(8, padding="symmetric", shortcut="centered", classes=3)
    unchanged(model, path, r"predictions: vars/0 \(64, 10\)")


def change(state, removed=(), **added):
    return {k: v for k, v in state.items() if k not in removed} | added


OTHERS = {
    "missing": (lambda s: change(s, ["bn1.bias"]), "which has no bn1.bias"),
    "more": (lambda s: change(s, extra=s["bn1.bias"]), r"has also \['extra'\]"),
    "none": (lambda s: {"weight": s["bn1.bias"]}, r"has layers \['weight'\]"),
    "empty": (lambda s: {}, r"has layers \[\]"),
    "head": (
        lambda s: change({k.replace("linear", "fc"): v for k, v in s.items()}),
        "has no linear.weight, nor downsample",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_networks(kind, cifar, tmp_path):
    make, message = OTHERS[kind]
    path = tmp_path / "weights.pth"
    torch.save(make(cifar.state_dict()), path)
    model = cifar_network(padding="symmetric", shortcut="centered")
    unchanged(model, path, f"timm, torchvision, akamaster .*{message}")
    with pytest.raises(ValueError, match=message):
        cifar_network(weights=path)


@pytest.mark.parametrize(
    "arguments", [{"stem_type": "deep"}, {"avg_down": True}], ids=str
)
def test_variants_of_timm_that_are_other_networks(arguments, tmp_path):
    path = tmp_path / "network.pth"
    torch.save(tiny_timm(**arguments).state_dict(), path)
    with pytest.raises(ValueError, match="which has (no|also)"):
        from_pytorch(path)


class Evil:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("write", [torch.save, write_legacy])
def test_code_in_a_file_is_not_run(write, cifar, tmp_path):
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    write({**cifar.state_dict(), "evil": Evil(str(trace))}, path)
    unchanged(cifar_network(), path, "nothing but tensors")
    path.write_bytes(pickle.dumps(Evil(str(trace))))
    unchanged(cifar_network(), path, "Expected .* tensors")
    assert not trace.exists()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64])
def test_files_that_are_none(suffix, content, tmp_path):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    unchanged(cifar_network(), path, "Expected .* tensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".th"])
def test_truncated_files(suffix, cifar, tmp_path):
    path = tmp_path / f"file{suffix}"
    FORMATS[suffix](cifar.state_dict(), path)
    content = path.read_bytes()
    model = cifar_network(padding="symmetric", shortcut="centered")
    for size in range(0, len(content), len(content) // 5):
        path.write_bytes(content[:size])
        unchanged(model, path, "Received: path=")


def test_what_is_not_a_state_dict(tmp_path):
    path = tmp_path / "file.pt"
    for content in (
        [torch.ones(2)],
        {"a": 3},
        torch.ones(2),
        {1: torch.ones(2)},
    ):
        torch.save(content, path)
        unchanged(cifar_network(), path, r"Expected the `state_dict\(\)`")


@pytest.mark.parametrize(
    "package, suffix, extra",
    [
        ("safetensors", ".safetensors", "safetensors"),
        ("torch", ".pth", "torch"),
    ],
)
def test_packages_that_are_missing(
    package, suffix, extra, tmp_path, monkeypatch
):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(b"?")
    model = cifar_network()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"aw-keras\[{extra}\]"):
        load(model, path)
