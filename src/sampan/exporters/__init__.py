"""From a build's result to what its user wants.

| module | what it makes |
| --- | --- |
| `results` | what exporters are given, platform by platform |
| `forms`, `annotations` | how an image is written, by BuildKit's attributes |
| `writing` | the documents: a manifest for each platform, an index of several (`configuration` says what images say) |
| `images` | an image in the engine's store |
| `archives` | an OCI layout or a docker archive |
| `cache` | build cache for other engines |
"""
