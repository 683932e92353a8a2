"""`python -m fbp`: the command line."""

import sys

from fbp.cli import main

sys.exit(main())
