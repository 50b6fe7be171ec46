"""From a build's result to what its user wants.

| module | what it makes |
| --- | --- |
| `layering` | a result's layers as blobs |
| `images` | an image in the engine's store |
"""
