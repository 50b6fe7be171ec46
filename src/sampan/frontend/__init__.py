"""Dockerfiles become LLB and an image's configuration. What is asked of the outside goes through `interface.Resolver`.

| module | what it knows |
| --- | --- |
| `interface` | what is lowered with which options, what comes out, the resolver |
| `lower` | a whole file: arguments, stages as they are needed, labels |
| `stage` | one stage, instruction by instruction |
| `copying` | `COPY` and `ADD` |
| `running` | `RUN` with its mounts |
| `watching` | who looks on while that happens |
| `checks` | build checks |
| `outline` | arguments, secrets and agents of a target |
| `subrequests` | what is answered instead of a build: checks, outline, targets |
| `variables` | build arguments and environment of a stage |
| `remote` | which words are URLs and git repositories |
"""
