"""What runs under every backend: samples and long runs; the rest runs once."""

import keras

collect_ignore = []
if keras.backend.backend() != "tensorflow":
    collect_ignore += [
        "test_architectures.py",
        "test_attacks.py",
        "test_configs.py",
        "test_paths.py",
        "test_previous.py",
    ]
