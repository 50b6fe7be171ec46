"""`python -m sampan.serve`."""

import sys

from sampan.serve.program import main

sys.exit(main())
