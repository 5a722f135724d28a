"""``python -m seglib`` is ``seglib``."""

import sys

from seglib.cli import main

sys.exit(main())
