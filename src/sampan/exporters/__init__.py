"""From a build's result to what its user wants.

| module | what it makes |
| --- | --- |
| `images` | an image in the engine's store |
| `archives` | an OCI layout or a docker archive |
"""
