"""Builds beside the current dockerd's BuildKit and Debian's classic builder: `python -m benchmarks.build`.

| module | subject |
| --- | --- |
| `projects` | what is built |
| `builders` | who builds it, with which client |
| `rows` | what is measured, and what it must reach |
| `stub` | a builder that answers at once: what is left is the client's own time |
| `wire` | how many bytes a client sends |
| `table` | what came out |
"""
