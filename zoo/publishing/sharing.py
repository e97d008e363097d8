"""Puts a released network on the Hugging Face hub, with its card.

What is there is what Keras itself saves there, an `aw_keras.Classifier`: it
takes photos and says names of classes. The released file lies beside it.
"""

import importlib.util
import pathlib
import re
import shutil
import tempfile

from aw_keras import Classifier
from aw_keras.applications import create_model, datasets, get_entry
from aw_keras.weights import manifest
from zoo.publishing import model_card, table

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)")


def share(file, address, places=None):
    """Uploads a released file as a model, in one commit.

    Args:
        file: `aw_keras.weights.ReleasedFile`.
        address: `"hf://USER/NAME"`. The repository is made if it is not there;
            what else is in it stays.
        places: `zoo.publishing.table.Places`; by default those of this
            checkout.

    Returns:
        The address of the commit.

    Raises:
        ImportError: If huggingface_hub is not installed.
        OSError: If the hub does not take it.
        ValueError: If the address is none of a model, or the file is damaged.
    """
    name = repository(address)
    import huggingface_hub

    places = places or table.Places()
    with tempfile.TemporaryDirectory() as folder:
        _write(file, name, places, pathlib.Path(folder))
        api = huggingface_hub.HfApi()
        api.create_repo(name, exist_ok=True)
        done = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message=f"{file.architecture} trained on {file.data}",
        )
    return done.commit_url


def repository(address):
    """The name of a repository, such as `"USER/NAME"`, if one can be written.

    Args:
        address: `"hf://USER/NAME"`.

    Raises:
        ImportError: If huggingface_hub is not installed.
        ValueError: If it is none.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"Expected hf://USER/NAME. Received: {address}")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ImportError(
            "Expected huggingface_hub to be installed: "
            "pip install 'aw-keras[hub]'"
        )
    return match[1]


def _write(file, name, places, folder):
    """The content of the repository."""
    path = places.weights / file.name
    manifest.check(path, file)
    known = datasets.find(file.dataset)
    entry = get_entry(file.architecture)
    network = create_model(
        file.architecture,
        weights=path,
        classes=known.classes if known else entry.classes,
    )
    classifier = Classifier(
        network,
        file.preprocessing or entry.preprocessing,
        known and datasets.class_names(known.name),
    )
    classifier.save(folder, zipped=False)
    shutil.copyfile(path, folder / file.name)
    files = manifest.read(places.manifest)
    card = model_card.card(file, files, places, shared_as=name)
    (folder / "README.md").write_text(card, "utf-8")
