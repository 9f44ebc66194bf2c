"""`python -m jaxdirect.cli`."""

import sys

from jaxdirect.cli import main

sys.exit(main())
