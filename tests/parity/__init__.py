"""Parity: the same scenario against real dockerds and against Sampan, compared after normalising what must differ.

`scenario` reads the scenario files, `playing` runs them, `normal` normalises, `peers` starts the engines, `__main__` is the
command.
"""
