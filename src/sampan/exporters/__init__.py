"""From a build's result to what its user wants.

| module | what it makes |
| --- | --- |
| `images` | an image in the engine's store |
| `forms` | how layers are written, by BuildKit's attributes |
| `archives` | an OCI layout or a docker archive |
"""
