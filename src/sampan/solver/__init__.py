"""The solver: a graph of LLB in, file systems out; each vertex once, and only if its result is not there already.

It knows no Dockerfile and runs nothing itself: what an operation does, `sampan.ops` says.

| module | what it knows |
| --- | --- |
| `interface` | the seam: `Operation`, what identifies it, what it is given, `Tree` |
| `solver` | the service: builds, and executing what has no result |
| `keeping` | what results keep from collection; the rest of the engine needs no more |
| `build` | one build: keys, results, parallel branches |
| `keys` | what identifies a result |
| `imports` | results that other engines have left for this build |
| `cacheconfig` | the document that such results are described by; pure |
| `flights` | equal work of several builds, done once |
| `records` | results and keys in the database |
| `layers` | a result as an image's layers |
| `progress` | what a build tells while it runs, in BuildKit's terms |
| `steps` | what a build does that is no operation of its graph |
| `sessions` | what a build asks of its client: files, secrets, ssh, credentials |
| `failures` | which vertex failed, and where it stands in the text |
"""
