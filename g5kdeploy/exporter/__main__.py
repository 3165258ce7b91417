"""`python3 -m g5kdeploy_exporter`."""

import gc
import sys

gc.disable()  # until it serves: of what is imported and read at the start hardly anything becomes garbage

from .main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
