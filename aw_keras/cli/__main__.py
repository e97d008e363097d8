"""`python -m aw_keras.cli`, the same as `aw-keras`."""

import sys

from aw_keras.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
