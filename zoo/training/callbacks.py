"""What happens beside the steps of a training: recording, stopping, showing."""

import csv
import io
import time

import keras
import rich.console
import rich.progress

from zoo.training import checkpoints

COLUMNS = (
    *("epoch", "loss", "accuracy", "val_loss", "val_accuracy"),
    *("learning_rate", "seconds"),
)


class Stopped(Exception):
    """A training was asked to stop, and has saved what it did."""


class Recorder(keras.callbacks.Callback):
    """Saves a checkpoint and the log after every epoch, and when it stops.

    Args:
        run: `zoo.run.Run`.
        record: What `checkpoints.restore` gave.
        steps: Integer, number of steps of an epoch.
        devices: `zoo.training.distribute.Devices`.
        stop: Function without arguments that says whether to stop.
    """

    def __init__(self, run, record, steps, devices, stop):
        super().__init__()
        self.run = run
        self.rows = record.get("rows", [])
        self.seconds = record.get("seconds", 0.0)
        self.steps = steps
        self.first_step = record["step"]
        self.stop = stop if devices.processes == 1 else lambda: False
        self.writes = devices.is_chief
        self.tensorboard = None

    def on_train_begin(self, logs=None):
        self._write_log()
        if self.writes and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self.tensorboard = tf.summary.create_file_writer(
                str(self.run.tensorboard)
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.first_step = max(self.first_step, epoch * self.steps)
        self.began = time.monotonic()

    # Before a batch, not after it: Keras then need not wait for its result.
    def on_train_batch_begin(self, batch, logs=None):
        if self.stop():
            self.seconds += time.monotonic() - self.began
            self._save(self.first_step + batch)
            raise Stopped

    def on_epoch_end(self, epoch, logs=None):
        seconds = self.seconds + time.monotonic() - self.began
        row = {
            "epoch": epoch + 1,
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(seconds, 3),
            **{name: float(value) for name, value in logs.items()},
        }
        self.rows.append({name: row[name] for name in COLUMNS})
        self.seconds = 0.0
        self._save((epoch + 1) * self.steps)
        self._write_log()
        self._write_scalars(row)

    def _save(self, step):
        # Every process of a distributed training reads the variables, which
        # may need all of them.
        record = {"rows": self.rows, "seconds": self.seconds}
        checkpoints.save(
            self.run.checkpoints,
            self.model,
            step,
            record,
            writes=self.writes,
        )

    def _write_log(self):
        if self.writes:
            text = io.StringIO()
            writer = csv.DictWriter(text, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
            self.run.write_log(text.getvalue())

    def _write_scalars(self, row):
        if self.tensorboard:
            import tensorflow as tf

            with self.tensorboard.as_default(step=row["epoch"]):
                for name in COLUMNS[1:]:
                    tf.summary.scalar(name, row[name])
            self.tensorboard.flush()


class Progress(keras.callbacks.Callback):
    """A bar for the whole training on terminals, and a line for each epoch.

    Args:
        recipe: `Recipe`.
        steps: Integer, number of steps of an epoch.
        first_step: Integer, the number of steps that were done.
        shown: Whether to show anything.
    """

    #: Reading the logs in another thread disturbs nothing.
    async_safe = True

    def __init__(self, recipe, steps, first_step, shown):
        super().__init__()
        self.epochs = recipe.epochs
        self.steps = steps
        self.first_step = first_step
        console = rich.console.Console(quiet=not shown)
        self.bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            transient=True,
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(
            recipe.model,
            total=recipe.epochs * steps,
            completed=first_step,
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.began = time.monotonic()
        self.seen = max(self.first_step, epoch * self.steps)

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(
            self.task,
            completed=self.seen + batch + 1,
            description=f"epoch {self.epoch + 1}/{self.epochs} "
            f"loss {logs['loss']:.3f} accuracy {logs['accuracy']:.1%}",
        )

    def on_epoch_end(self, epoch, logs=None):
        self.bar.console.print(
            f"epoch {epoch + 1}/{self.epochs}: "
            f"loss {logs['loss']:.3f}, accuracy {logs['accuracy']:.2%}, "
            f"test loss {logs['val_loss']:.3f}, "
            f"test accuracy {logs['val_accuracy']:.2%}, "
            f"{time.monotonic() - self.began:.1f} s",
            highlight=False,
            soft_wrap=True,
        )
