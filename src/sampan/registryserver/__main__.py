"""`python -m sampan.registryserver`: what `sampan registry …` becomes."""

import sys

from sampan.registryserver.program import main

sys.exit(main())
