"""Variations of the attention: that they change what they say; the table."""

import csv

import keras
import numpy as np
import pytest

from aw_keras import AWConv2D
from tests.zoo.published import empty_places
from zoo import ablation, network
from zoo.data import Dataset

RECIPE = "zoo/recipes/digits.yaml"
SETTINGS = ["limit=64", "epochs=1", "batch_size=32"]


def create_model(
    name, input_shape, classes, data_format, classifier_activation
):
    """One convolution in the place of nineteen."""
    layer = AWConv2D if name.startswith("AW") else keras.layers.Conv2D
    image = keras.Input(input_shape)
    x = layer(8, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes)(x))


@pytest.fixture
def places(tmp_path):
    return empty_places(tmp_path)


def moved(name):
    """How far gradients of one move the weights of a layer in a variation."""
    recipe = ablation.recipe_of(
        name, RECIPE, ["warmup_epochs=0", "weight_decay=1e-3"], seed=0
    )
    model = keras.Sequential([keras.Input((4, 4, 4)), AWConv2D(2, 3)])
    for weight in model.weights:
        weight.assign(keras.ops.ones(weight.shape))
    spared = ablation.spared(ablation.VARIATIONS[name])
    network.compile_for(model, recipe, 10, spared)
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
    usual = moved("uniform")
    branch = {name for name in usual if name.startswith("attention_")}
    assert len(branch) == 4
    step = usual["bias"]
    assert step > 0.01
    decay = usual["kernel"] - step
    assert decay > 1e-4
    faster, decayed = moved("rate10"), moved("decay")
    for name in usual.keys() - branch:
        assert faster[name] == decayed[name] == usual[name]
    for name in branch:
        lost = 0 if name.endswith("bias") else decay
        assert usual[name] == pytest.approx(step, rel=1e-4)
        assert faster[name] == pytest.approx(10 * step, rel=1e-4)
        assert decayed[name] == pytest.approx(step + lost, rel=1e-4)


def test_halves_of_the_training_split():
    labels = np.arange(11)
    split = Dataset(("a",), labels * 10, labels, np.zeros(3), np.zeros(3))
    found = ablation.halves(split)
    assert len(found.y_train) == 6 and len(found.y_test) == 5
    np.testing.assert_array_equal(found.x_train, 10 * found.y_train)
    np.testing.assert_array_equal(found.x_test, 10 * found.y_test)
    both = np.concatenate([found.y_train, found.y_test])
    np.testing.assert_array_equal(np.sort(both), labels)


def test_begin_of_the_expansion():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), AWConv2D(16, 3), AWConv2D(16, 3)]
    )
    x = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    assert 0.01 < ablation.attention_variation(model, x) < 0.5
    ablation.reinitialise(model, "zeros")
    assert ablation.attention_variation(model, x) == 0
    ablation.reinitialise(model, "glorot_uniform")
    for layer in model.layers:
        kernel = np.array(layer.attention_expand_kernel)
        units, channels, filters = kernel.shape
        limit = (6 / (units * (channels + filters))) ** 0.5
        np.testing.assert_allclose(kernel.std(), limit / 3**0.5, rtol=0.2)
        assert not np.any(layer.attention_expand_bias)
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.ReLU()])
    assert ablation.attention_variation(other, x) is None


def test_runs_and_table(places, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "create_model", create_model)
    out = tmp_path / "runs"

    def main(*variations):
        ablation.main(
            [RECIPE, "--out", str(out), "--set", *SETTINGS]
            + ["--variations", *variations],
            places,
        )

    main("uniform-rate10", "plain")
    before = (out / "plain-0" / "result.json").stat()
    main("plain", "decay")  # What is finished is not done again.
    assert (out / "plain-0" / "result.json").stat() == before
    with open(ablation.path(places)) as file:
        rows = {row["variation"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["plain", "uniform-rate10", "decay"]
    for row in rows.values():
        assert row["train_images"] == row["other_images"] == "64"
        assert 0 <= float(row["top1"]) <= 100
    assert rows["plain"]["attention"] == ""
    assert float(rows["uniform-rate10"]["attention"]) > 0


def test_page(places):
    assert ablation.page(places, "") is None
    row = dict.fromkeys(
        ("recipe", "data", "hardware", "backend", "attention"), ""
    ) | dict.fromkeys(("train_images", "other_images", "epochs"), 1000)
    figures = [
        ("plain", 0, 60, ""),
        ("plain", 1, 62, ""),
        ("glorot", 1, 63, 0.02),
    ]
    figures.append(("zero", 2, 61, 0))  # Without a plain run of its seed.
    ablation.table.write_dicts(
        ablation.path(places),
        [
            {**row, "variation": v, "seed": s, "top1": t, "attention": a}
            | {"train_loss": 1}
            for v, s, t, a in figures
        ],
    )
    page = ablation.page(places, "head").splitlines()
    assert page[0] == "head"
    lines = [line for line in page if "ResNet-20" in line or "Glorot" in line]
    assert [line.strip("| ").split(" | ") for line in lines] == [
        [
            "the plain network, ResNet-20",
            "2",
            "61.00 ± 1.41",
            "",
            "1.000 ± 0.000",
        ],
        [
            "expansion by Glorot's rule",
            "1",
            "63.00",
            "+1.00 (no test: one seed)",
            "1.000",
            "0.020",
        ],
    ]
    assert "| expansion begins at zero | 1 | 61.00 |  | 1.000 | 0.000 |" in page


def test_bad_settings(tmp_path, places, capsys):
    with pytest.raises(SystemExit, match="Expected the fields of a recipe"):
        ablation.main(
            [RECIPE, "--out", str(tmp_path), "--set", "epoch=1"], places
        )
    with pytest.raises(SystemExit):
        ablation.main(
            [RECIPE, "--out", str(tmp_path), "--variations", "none"], places
        )
    assert "invalid choice" in capsys.readouterr().err
