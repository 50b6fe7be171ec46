"""The engine as a program: `python -m sampan.serve`, which is what `sampan serve` executes."""
