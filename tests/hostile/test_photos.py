"""Images that are small on the disk and large in memory."""

import pathlib
import subprocess
import sys

import PIL.Image
import pytest

from aw_keras import image_files

EXTENT = 3000  # pixels a side

#: A process, since Pillow's memory is not Python's: it prints the highest
#: number of bytes that reading an image took. Without Keras, which takes long.
READER = """
import sys
from image_files import read_image

def peak():
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

read_image(sys.argv[1])
before = peak()
read_image(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/status").exists(),
    reason="The system does not tell the memory in use.",
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_memory(mode, tmp_path):
    """Pillow's four bytes a pixel, the three of the array, and little more."""
    for name, extent in (("small", 4), ("large", EXTENT)):
        image = PIL.Image.new(mode, (extent, extent))
        image.save(tmp_path / name, "PNG")
    assert (tmp_path / "large").stat().st_size < 200_000
    found = subprocess.run(
        [sys.executable, "-c", READER, tmp_path / "small", tmp_path / "large"],
        cwd=pathlib.Path(image_files.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) < 15 * EXTENT**2
