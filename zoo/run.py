"""`Run`: the folder of a training, and what stands where in it."""

import contextlib
import csv
import dataclasses
import json
import pathlib

import filelock
import keras

import aw_keras.layers  # noqa: F401 - Keras has to know them.
from aw_keras.classifier import Classifier
from aw_keras.files import remove_remains, replace_text, replacing
from aw_keras.suffixes import MODEL_FILE
from zoo.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Run:
    """A training, finished or not, as the files of its folder.

    Example:

    >>> import tempfile
    >>> from zoo.recipe import Recipe
    >>> run = Run(tempfile.mkdtemp())
    >>> run.claim(Recipe("ResNet20", "digits", epochs=2))
    >>> run.recipe.model, run.is_finished
    ('ResNet20', False)

    Attributes:
        folder: `pathlib.Path`, or what makes one.
    """

    folder: pathlib.Path

    def __post_init__(self):
        object.__setattr__(self, "folder", pathlib.Path(self.folder))

    @property
    def checkpoints(self):
        """Folder of what an interrupted training goes on from."""
        return self.folder / "checkpoints"

    @property
    def tensorboard(self):
        """Folder of the log in TensorBoard's format."""
        return self.folder / "tensorboard"

    @property
    def model(self):
        """File of the trained `Classifier`, which `aw-keras` looks for, too."""
        return self.folder / MODEL_FILE

    @property
    def _recipe(self):
        return self.folder / "run.json"

    @property
    def _log(self):
        return self.folder / "log.csv"

    @property
    def _metrics(self):
        return self.folder / "metrics.json"

    def claim(self, recipe):
        """Makes the folder, or checks that it is this recipe's.

        Raises:
            OSError: If the folder cannot be made or written.
            ValueError: If the folder holds a run of another recipe.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = dataclasses.asdict(recipe)
        if not self._recipe.exists():
            replace_text(self._recipe, to_json(wanted))
            return
        found = dataclasses.asdict(self.recipe)
        differences = [
            f"{field}={value} (there {field}={found[field]})"
            for field, value in wanted.items()
            if found[field] != value
        ]
        if differences:
            raise ValueError(
                f"Expected the recipe of the run in {self.folder}. "
                f"Received: {', '.join(differences)}"
            )

    @contextlib.contextmanager
    def locked(self):
        """Keeps every other training out of the folder.

        Raises:
            BlockingIOError: If another process trains there.
        """
        lock = filelock.FileLock(self.folder / ".lock", blocking=False)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise BlockingIOError(
                "Expected a folder in which no other process trains. "
                f"Received: {self.folder}"
            ) from error
        try:
            # Of trainings that were killed while they wrote.
            for folder in (self.folder, self.checkpoints):
                remove_remains(folder)
            yield
        finally:
            lock.release()

    @property
    def exists(self):
        """Whether a training was begun here."""
        return self._recipe.is_file()

    @property
    def is_finished(self):
        """Whether it ended: its metrics are written last."""
        return self._metrics.is_file()

    @property
    def recipe(self):
        """Its `zoo.recipe.Recipe`.

        Raises:
            OSError: If there is none.
            ValueError: If it is damaged.
        """
        return Recipe.from_dict(_read_json(self._recipe))

    @property
    def metrics(self):
        """Dict of what was measured at the end.

        Raises:
            ValueError: If the run is not finished, or they are damaged.
        """
        self._check_finished()
        return _read_json(self._metrics)

    def _check_finished(self):
        if not self.is_finished:
            raise ValueError(
                "Expected a finished run; the command that began it finishes "
                f"it. Received: {self.folder} without {self._metrics.name}"
            )

    @property
    def log(self):
        """Dicts of strings, one for each finished epoch."""
        if not self._log.exists():
            return []
        with open(self._log, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write_log(self, text):
        """Replaces the log by a text of CSV."""
        replace_text(self._log, text)

    def finish(self, classifier, metrics):
        """Writes the trained network, and then what was measured of it."""
        with replacing(self.model) as path:
            classifier.save(path)
        replace_text(self._metrics, to_json(metrics))

    def classifier(self):
        """The trained `aw_keras.Classifier`, from pixels to probabilities.

        Raises:
            ValueError: If the run is not finished, or the file is damaged.
        """
        self._check_finished()
        try:
            model = keras.saving.load_model(self.model, compile=False)
        # What Keras raises for damaged files depends on where the damage is.
        except Exception as error:
            raise ValueError(
                "Expected the file that a training has written. "
                f"Received: {self.model} ({type(error).__name__}: {error})"
            ) from error
        if not isinstance(model, Classifier):
            raise ValueError(
                "Expected the `Classifier` that a training has written. "
                f"Received: {self.model}, a {type(model).__name__}"
            )
        return model


def to_json(content):
    """Content as the files of a run have it."""
    return json.dumps(content, indent=2) + "\n"


def _read_json(path):
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected JSON that a training has written. Received: {path} "
            f"({error})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"Expected JSON that a training has written. Received: {path}"
        )
    return content
