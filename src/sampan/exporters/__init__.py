"""From a build's result to what its user wants.

| module | what it makes |
| --- | --- |
| `results` | what exporters are given, platform by platform |
| `forms`, `annotations` | how an image is written, by BuildKit's attributes |
| `naming` | where an image goes and how it is called |
| `writing` | the documents: a manifest for each platform, an index of several (`configuration` says what images say) |
| `images` | an image in the engine's store |
| `archives` | an OCI layout or a docker archive |
| `stored` | what the engine has, as a source of copies |
| `cache` | build cache for other engines |
"""
