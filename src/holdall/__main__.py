"""`python -m holdall`: the command line."""

import sys

from holdall.cli import main

sys.exit(main())
