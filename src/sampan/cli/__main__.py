"""`python -m sampan.cli`."""

from sampan.cli.main import main

main()
