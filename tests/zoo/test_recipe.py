"""Recipes: what their files may say, and that the ones here are complete."""

import pathlib

import pytest

from zoo.recipe import Recipe
from zoo.training.optimization import largest_divisor, learning_rate

RECIPES = sorted(pathlib.Path("zoo/recipes").glob("*.yaml"))


def write(tmp_path, text="model: ResNet20\ndata: digits\nepochs: 2\n"):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_file_and_settings(tmp_path):
    recipe = Recipe.from_file(
        write(tmp_path),
        ["model=awresnet20", "weight_decay=5e-4", "milestones=[1]"]
        + ["schedule=steps", "learning_rate=1", "limit=null"],
    )
    assert recipe.name == "mine"
    assert recipe.model == "AWResNet20"
    assert recipe.weight_decay == 5e-4
    assert recipe.milestones == (1,)
    assert recipe.learning_rate == 1.0
    assert recipe.run_name == "mine-AWResNet20-0"


def test_dataset_is_called_like_the_data():
    assert Recipe("ResNet20", "../pets.tar.gz", 1).dataset == "pets"
    assert Recipe("ResNet20", "a/b", 1, dataset="c").dataset == "c"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=3", "such as epochs. Received: epoch=3"),
        ("nonsense=3", "such as .*batch_size.*Received: nonsense=3"),
        ("epochs", "settings like seed=1. Received: epochs"),
        ("epochs=[", "Expected YAML"),
        ("epochs=2.5", "`epochs` .* be int. Received: epochs=2.5"),
        ("epochs=true", "`epochs` .*Received: epochs=True"),
        ("epochs=0", "from 1 to .*Received: epochs=0"),
        ("flip=1", "`flip` .* be bool. Received: flip=1"),
        ("learning_rate=fast", "float.*Received: learning_rate='fast'"),
        ("learning_rate=.nan", "Received: learning_rate=nan"),
        ("momentum=1.0", "Received: momentum=1.0"),
        ("schedule=linear", "steps.*cosine.*Received: schedule=linear"),
        ("schedule=steps", "Received: milestones=()"),
        ("milestones=[1]", "Received: milestones=(1,)"),
        ("milestones=[a]", "Received: milestones='a'"),
        ("dtype=float64", "Received: dtype=float64"),
        ("distribute=all", "Received: distribute=all"),
        ("model=ResNet21", "Received: name=ResNet21; .*ResNet20"),
    ],
)
def test_wrong_settings(tmp_path, setting, message):
    message = message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=message):
        Recipe.from_file(write(tmp_path), [setting])


@pytest.mark.parametrize("text", ["", "- a", "a: [", "data: digits"])
def test_wrong_files(tmp_path, text):
    with pytest.raises(ValueError, match="Expected"):
        Recipe.from_file(write(tmp_path, text))


def test_missing_file(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        Recipe.from_file(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_here(path):
    """A file begins with command, hardware, time and result; it is valid."""
    recipe = Recipe.from_file(path)
    assert recipe.name == path.stem
    header = path.read_text().partition("\nmodel:")[0]
    assert header.startswith("# ")
    command = "study" if path.stem.endswith("study") else "train"
    assert f"python -m zoo.{command} zoo/recipes/{path.name}" in header
    for key in ("Hardware: ", "Wall time: ", "Result: "):
        assert f"# {key}" in header


def test_recipes_of_the_papers():
    steps = Recipe.from_file("zoo/recipes/cifar10.yaml")
    rate = learning_rate(steps, steps=390)
    assert [
        round(float(rate(390 * epoch + 1)), 6) for epoch in (0, 99, 100, 150)
    ] == [0.1, 0.1, 0.01, 0.001]
    cosine = Recipe.from_file("zoo/recipes/cifar10_cosine.yaml")
    rate = learning_rate(cosine, steps=390)
    peak = int(390 * cosine.warmup_epochs)
    assert float(rate(0)) == 0
    assert float(rate(peak)) == pytest.approx(0.1, rel=1e-3)
    assert float(rate(390 * 200)) == pytest.approx(0, abs=1e-6)


def test_largest_divisor():
    assert largest_divisor(390, 64) == 39
    assert largest_divisor(7, 5) == 1
    assert largest_divisor(4, 100) == 4
