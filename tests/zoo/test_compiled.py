"""Steps that PyTorch compiles whole: the same training as without."""

import pytest

from tests.zoo import tiny

torch = pytest.importorskip("torch", reason="PyTorch is not installed.")

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}


def start(out, *settings):
    return tiny.start(
        out, "epochs=2", *settings, backend="torch", **_ONE_THREAD
    )


def test_compiled_training_ends_the_same(tmp_path):
    eager, compiled = tmp_path / "eager", tmp_path / "compiled"
    tiny.finish(
        start(eager, "jit_compile=false"), start(compiled, "jit_compile=true")
    )
    tiny.assert_same_end(compiled, eager)


@pytest.mark.parametrize(
    "setting, match",
    [
        ("dtype=mixed_float16", "does not scale the loss"),
        ("drop_path=0.5", "random numbers=True"),
    ],
)
def test_what_is_in_no_graph_is_refused(tmp_path, setting, match):
    process = start(tmp_path, "jit_compile=true", setting)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "zoo.train: Expected" in printed and match in printed
