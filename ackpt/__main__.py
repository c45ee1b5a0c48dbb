"""`python -m ackpt`: the command line."""

import sys

from ackpt.cli.main import main

sys.exit(main())
