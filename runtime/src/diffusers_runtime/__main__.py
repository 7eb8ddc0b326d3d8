"""`python -m diffusers_runtime`."""

import sys

from .server import main

sys.exit(main())
