"""Trains and evaluates an experiment of the Model Garden.

    python -m aw_keras.detection.train --mode=train_and_eval \\
        --experiment=fasterrcnn_aw_resnetfpn_bccd --model_dir=runs/bccd

This is the Model Garden's own command, with its flags, that knows the
experiments of `aw_keras.detection` too. It prints the losses and the speed of
every `trainer.steps_per_loop` steps, and goes on from the checkpoints that it
finds in `model_dir`.
"""

from absl import app, flags
from official.common import flags as model_garden_flags
from official.vision import train

import aw_keras.detection  # noqa: F401


def main():
    model_garden_flags.define_flags()
    flags.mark_flags_as_required(["experiment", "mode", "model_dir"])
    app.run(train.main)


if __name__ == "__main__":
    main()
