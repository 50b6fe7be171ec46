"""Building images from Dockerfiles, with the classic API's meaning: each step is an image.

| module | what it does |
| --- | --- |
| `interface` | what a build is asked for, and where its output goes |
| `service` | one build from context to tags |
| `context` | the client's archive in a directory of its own |
| `variables` | build arguments and environment, by stage |
| `steps` | one instruction onto an image: the next image |
| `running` | `RUN` in a container, as confined as any |
| `copying` | `COPY` and `ADD`: what a step copies, as the engine asks for it |
| `sources`, `copy_jobs` | the same in a worker process: files chosen, digested, written |
| `cache` | which image a step gave before |

The steps stand on the services below (containers, images), so a build's container is a container and its step an image, with all
that is true of these after a kill -9. BuildKit's protocol, which brings graphs instead of steps, is not here yet.
"""
