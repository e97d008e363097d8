"""What runs under which backend: samples everywhere, the rest once.

Long runs are about what is traced and compiled, which PyTorch does not do here.
"""

import keras

collect_ignore = []
if keras.backend.backend() != "tensorflow":
    collect_ignore += [
        "test_annotations.py",
        "test_architectures.py",
        "test_attacks.py",
        "test_bombs.py",
        "test_configs.py",
        "test_data.py",
        "test_downloads.py",
        "test_numbers.py",
        "test_paths.py",
        "test_photos.py",
        "test_previous.py",
        "test_publishing.py",
        "test_replacing.py",
        "test_requests.py",
        "test_sizes.py",
        "test_threads.py",
        "test_training.py",
    ]
if keras.backend.backend() == "torch":
    collect_ignore.append("test_long_runs.py")
