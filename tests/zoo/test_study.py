"""The study of branches: their formulae, which are chosen, runs, the page."""

import csv
import math

import keras
import numpy as np
import pytest

from aw_keras import AWConv2D
from tests.zoo.published import empty_places
from zoo import study
from zoo.run import Run
from zoo.studies import attention
from zoo.studies.branches import BranchConv2D
from zoo.training import network, optimization

RECIPE = "zoo/recipes/digits.yaml"
SETTINGS = ["limit=64", "batch_size=32", "warmup_epochs=0", "holdout=100"]


def create_model(name, input_shape, classes, **ignored):
    """Two convolutions in the place of nineteen."""
    layer = AWConv2D if name.startswith("AW") else keras.layers.Conv2D
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, activation="relu")(image)
    x = layer(8, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes)(x))


@pytest.fixture
def places(tmp_path):
    return empty_places(tmp_path)


def images(channels=16):
    return np.random.default_rng(0).normal(size=(3, 7, 6, channels))


def randomised(layer, x):
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    return {
        weight.name.removeprefix("attention_"): np.array(weight, "float64")
        for weight in layer.weights
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pooled(x):
    """Adaptive average pooling to 3 x 3, `(N, 9, C)`."""

    def bins(extent):
        return [
            slice(i * extent // 3, math.ceil((i + 1) * extent / 3))
            for i in range(3)
        ]

    rows, columns = map(bins, x.shape[1:3])
    parts = [x[:, r, c].mean((1, 2)) for r in rows for c in columns]
    return np.stack(parts, axis=1)


def convolved(x, kernels):
    """Convolution of every sample with its kernel, padding "same"."""
    height, width = x.shape[1:3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        np.einsum(
            "nhwc,ncd->nhwd",
            x[:, i : i + height, j : j + width],
            kernels[:, 3 * i + j],
        )
        for i in range(3)
        for j in range(3)
    )


@pytest.mark.parametrize(
    "map, gates",
    [
        ("uniform", None),
        ("uniform", "inside"),
        (None, "inside"),
        (None, "outside"),
    ],
)
@pytest.mark.parametrize("norm", [False, True])
def test_formulae(map, gates, norm):
    x = images()
    layer = BranchConv2D(
        5,
        3,
        padding="same",
        use_bias=False,
        units=8,
        norm=norm,
        map=map,
        gates=gates,
        mean_one=norm,
        dtype="float64",
    )
    w = randomised(layer, x)
    z = pooled(x) @ w["reduce_kernel"]
    if norm:
        z -= z.mean((1, 2), keepdims=True)
        z /= np.sqrt((z**2).mean((1, 2), keepdims=True) + 1e-5)
        z *= w["reduce_scale"]
    hidden = np.maximum(z + w["reduce_bias"], 0)
    flat = w["kernel"].reshape(9, 16, 5)
    if gates:
        mean = hidden.mean(1)
        of_input = mean @ w["input_kernel"]
        of_filter = mean @ w["filter_kernel"] + w["filter_bias"]
    if gates == "outside":
        factor = 4 * (
            sigmoid(of_input)[:, None, :, None]
            * sigmoid(of_filter)[:, None, None, :]
        )
    else:
        logits = w["expand_bias"][None, None]
        if map:  # 8 units in 8 groups of 2 input channels each.
            units = np.repeat(hidden, 2, axis=-1)
            logits = logits + units[..., None] * w["expand_kernel"][0]
        if gates:
            logits = logits + of_input[:, None, :, None]
            logits = logits + of_filter[:, None, None, :]
        factor = 2 * sigmoid(logits) if norm else 1 + sigmoid(logits)
    np.testing.assert_allclose(
        np.array(layer.kernel_factor(x)), factor, rtol=1e-4
    )
    np.testing.assert_allclose(
        np.array(layer(x)), convolved(x, flat * factor), rtol=1e-4, atol=1e-4
    )


def test_the_papers_map_is_the_layer_of_the_library():
    x = images().astype("float32")
    expected = AWConv2D(5, 3, strides=2, padding="same")
    randomised(expected, x)
    layer = BranchConv2D(5, 3, strides=2, padding="same")
    layer.build(x.shape)
    for weight in layer.weights:
        (same,) = (w for w in expected.weights if w.name == weight.name)
        weight.assign(same)
    np.testing.assert_allclose(layer(x), expected(x), rtol=1e-4, atol=1e-5)


def test_gates_begin_at_one_factor_for_all():
    x = images().astype("float32")
    for name in ("gates", "gates-mean-one", "outside", "map-gates-zero"):
        layer = BranchConv2D(5, 3, **attention.VARIANTS[name].branch)
        layer.build(x.shape)
        factor = np.array(layer.kernel_factor(x))
        begin = 1 if name in ("gates-mean-one", "outside") else 1.5
        np.testing.assert_allclose(factor, begin, rtol=1e-6)


def test_every_variant_makes_a_network(monkeypatch):
    from zoo.data.dataset import Dataset
    from zoo.recipe import Recipe

    zeros = np.zeros((2, 16, 16, 3), "uint8")
    dataset = Dataset(("a", "b"), zeros, np.zeros(2), zeros, np.zeros(2))
    counts = {}
    for name, variant in attention.VARIANTS.items():
        if variant.settings or variant.decay:  # The same networks.
            continue
        recipe = Recipe(variant.model, "digits", 1)
        made = study.network_of(name, recipe, dataset)
        assert made.output_shape == (None, 2)
        counts[name] = made.count_params()
    assert counts["paper"] == counts["zero"] == counts["mean-one"]
    assert counts["blend"] > counts["zero"]
    assert counts["plain"] < counts["outside"] < counts["gates"]
    assert counts["gates"] < counts["map-gates"]


def moved(name):
    """How far gradients of one move the weights of a layer in a variant."""
    recipe = study.recipe_of(
        name, RECIPE, ["warmup_epochs=0", "weight_decay=1e-3"], 1, seed=0
    )
    model = keras.Sequential([keras.Input((4, 4, 4)), AWConv2D(2, 3)])
    for weight in model.weights:
        weight.assign(keras.ops.ones(weight.shape))
    spared = study.spared(attention.VARIANTS[name])
    optimization.compile_for(model, recipe, 10, spared)
    variables = model.trainable_variables
    model.optimizer.build(variables)
    model.optimizer.apply(
        [keras.ops.ones(v.shape) for v in variables], variables
    )
    return {
        weight.name: float(np.mean(1 - keras.ops.convert_to_numpy(weight)))
        for weight in model.weights
    }


def test_learning_rate_and_decay_of_the_branch():
    usual = moved("paper")
    branch = {name for name in usual if name.startswith("attention_")}
    assert len(branch) == 4
    step = usual["bias"]
    assert step > 0.01
    decay = usual["kernel"] - step
    assert decay > 1e-4
    faster, decayed = moved("rate5"), moved("decay")
    for name in usual.keys() - branch:
        assert faster[name] == decayed[name] == usual[name]
    for name in branch:
        lost = 0 if name.endswith("bias") else decay
        assert usual[name] == pytest.approx(step, rel=1e-4)
        assert faster[name] == pytest.approx(5 * step, rel=1e-4)
        assert decayed[name] == pytest.approx(step + lost, rel=1e-4)


def test_blend():
    layer = BranchConv2D(2, 3, blended=True)
    model = keras.Sequential([keras.Input((4, 4, 1)), layer])
    model.compile("sgd", "mse")
    blend = study.Blend(model, steps=4)
    blend.set_model(model)
    seen = []
    for step in (0, 1, 3, 9):
        model.optimizer.iterations.assign(step)
        blend.on_train_batch_begin(0)
        seen.append(float(layer.blend))
    assert seen == [0, 0.25, 0.75, 1]


def test_clock_takes_whole_epochs_alone(monkeypatch):
    """Not what is left of one that was interrupted."""
    now = [0.0]
    monkeypatch.setattr(study.time, "process_time", lambda: now[0])
    clock = study.Clock(steps=4, batch_size=32)
    for steps, seconds in ((1, 0.01), (4, 2.0), (4, 1.0)):
        clock.set_params({"steps": steps})
        clock.on_epoch_begin(0)
        for batch in range(steps):
            now[0] += seconds / steps
            clock.on_train_batch_end(batch)
        clock.on_epoch_end(0)
    assert clock.images_per_second == 128


def line(variant, epochs, seed, loss, **more):
    return {
        **dict.fromkeys(("recipe", "data", "hardware", "backend"), "-"),
        **dict.fromkeys(("train_images", "held_out", "parameters"), 1000),
        "variant": variant,
        "epochs": epochs,
        "seed": seed,
        "loss": loss,
        "train_loss": 1,
        "top1": 60,
        "variation": "",
        "images_per_second": 100,
        "dtype": "float32",
        **more,
    }


def test_rounds():
    names = list(attention.VARIANTS)
    assert attention.unfinished([]) == [(name, 8, 0) for name in names]
    # References are no candidates, however good.
    losses = {name: 2 - 0.01 * n for n, name in enumerate(names)}
    losses |= dict.fromkeys(attention.REFERENCES, 0.1)
    first = [line(name, 8, 0, loss) for name, loss in losses.items()]
    assert attention.unfinished(first[1:]) == [(names[0], 8, 0)]
    half = ["plain", "paper", "plain-float32", "paper-float32"]
    left = attention.unfinished(first)
    assert left == [(name, 8, 1) for name in half]
    first += [line(name, 8, 1, losses[name]) for name in half]
    best = [name for name in names if name not in attention.REFERENCES][-5:]
    second = ["plain", *best]
    left = attention.unfinished(first)
    runs = [(name, 8, seed) for seed in (1, 2) for name in second]
    assert left == [run for run in runs if run != ("plain", 8, 1)]
    # The mean over all seeds decides.
    more = [
        line(name, 8, seed, 9 if name == best[-1] else losses[name])
        for name, _, seed in left
    ]
    left = attention.unfinished(first + more)
    third = {"plain", "paper", *best[-3:-1]}
    assert {name for name, *_ in left} == third
    assert {epochs for _, epochs, _ in left} == {16}
    assert len(left) == 4 * len(third)
    last = [line(name, 16, seed, 1) for name, _, seed in left]
    assert attention.unfinished(first + more + last) == []


@pytest.fixture
def two_variants(monkeypatch):
    monkeypatch.setattr(network, "create_model", create_model)
    kept = {name: attention.VARIANTS[name] for name in ("plain", "norm")}
    rounds = (attention.Round(1, (0,), tuple(kept)),)
    monkeypatch.setattr(study, "VARIANTS", kept)
    monkeypatch.setattr(attention, "VARIANTS", kept)
    monkeypatch.setattr(attention, "ROUNDS", rounds)


def test_runs_and_table(places, tmp_path, two_variants, capsys):
    out = tmp_path / "runs"
    command = [RECIPE, "--out", str(out), "--set", *SETTINGS]
    study.main(command, places)
    assert capsys.readouterr().out.splitlines()[-2:][0].startswith("plain 1 0")
    before = (out / "plain-1-0" / "result.json").stat()
    study.main(command, places)  # What is finished is not done again.
    assert (out / "plain-1-0" / "result.json").stat() == before
    assert not attention.path(places).exists()
    study.main([*command, "--publish"], places)
    with open(attention.path(places)) as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["plain", "norm"]
    for row in rows.values():
        assert row["train_images"] == row["held_out"] == "64"
        assert 0 <= float(row["top1"]) <= 100
        assert float(row["images_per_second"]) > 0
    assert rows["plain"]["variation"] == ""
    assert float(rows["norm"]["variation"]) > 0
    # What the table has is not trained again elsewhere.
    study.main([RECIPE, "--out", str(tmp_path / "other"), *command[3:]], places)
    assert not (tmp_path / "other").exists()


def test_a_run_of_another_process_is_left_alone(
    places, tmp_path, two_variants, monkeypatch
):
    out = tmp_path / "runs"
    trained = []
    monkeypatch.setattr(
        study,
        "train_variant",
        lambda name, *_: trained.append(name) or stop.append(1),
    )
    monkeypatch.setattr(study, "Signals", lambda: lambda: bool(stop))
    stop = []
    (out / "plain-1-0").mkdir(parents=True)
    with Run(out / "plain-1-0").locked():
        study.main([RECIPE, "--out", str(out), "--set", *SETTINGS], places)
    assert trained == ["norm"]


def test_page(places):
    assert attention.page(places, "") is None
    attention.table.write_dicts(
        attention.path(places),
        [
            line("plain", 8, 0, 1.5),
            line("plain", 8, 1, 1.7, top1=62),
            line("gates", 8, 1, 1.2, top1=63, variation=0.02),
            line("zero", 16, 2, 1.1, variation=0.0),  # Without a plain run.
        ],
    )
    page = attention.page(places, "head").splitlines()
    assert page[0] == "head"
    at = page.index("## 8 epochs")
    rows = [
        text.strip("| ").split(" | ") for text in page[at:] if "1,000" in text
    ]
    assert rows[0] == [
        *("gates in the place of the map", "1,000", "1", "63.00"),
        *("+1.00 (no test: one seed)", "1.200", "1.000", "0.020", "100"),
    ]
    assert rows[1][3] == "61.00 ± 1.41"
    assert rows[2][:4] == ["map from zero", "1,000", "1", "60.00"]


def test_bad_settings(tmp_path, places):
    with pytest.raises(SystemExit, match="Expected the fields of a recipe"):
        study.main([RECIPE, "--out", str(tmp_path), "--set", "epoch=1"], places)
