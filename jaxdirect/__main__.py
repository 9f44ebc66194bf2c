"""`python -m jaxdirect`."""

import sys

from jaxdirect.cli import main

sys.exit(main())
