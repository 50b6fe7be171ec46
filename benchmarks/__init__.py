"""Sampan beside Docker, measured in turn within one run: `bin/test bench`, or `python -m benchmarks --help`.

`contestants` starts both engines, `row` says what a row of the table is; `latency`, `imaging`, `output`, `traffic` and
`footprint` are the rows, `report` and `plot` show what came out. The scripts beside (`*_steps.py`, `native_runtime.py`)
split one operation into its steps.
"""
