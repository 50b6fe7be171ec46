"""The Dockerfile language: text in, typed instructions by stage out. No I/O.

| module | what it knows |
| --- | --- |
| `source` | a file's lines, places in it, and errors that show the excerpt |
| `directives` | `# syntax=`, `# escape=`, `# check=` at the head |
| `parse` | logical lines: continuations, comments, heredocs, flags → `Statement` |
| `words` | splitting a line: words with quotes, JSON arrays, `name=value` lists |
| `expand` | `$variable` and `${variable…}` with every modifier |
| `flags` | `--name=value` of an instruction, checked against what it takes |
| `mounts` | `RUN --mount=…` |
| `instructions` | a `Statement` becomes one of the typed instructions |
| `health` | `HEALTHCHECK` |
| `stages` | a whole file: arguments before the first `FROM`, stages, which of them a target needs |
| `ignore` | `.dockerignore` |
| `modes` | `--chmod=u=rwX,go=rX` |
| `rules` | the build checks that there are |
| `checks` | which of them are on, what they found, and those that need only the text |
| `hints` | advice on what beginners often get wrong |
| `nearest` | "did you mean" |

The reference is Docker's Dockerfile reference; where that is silent, BuildKit's behaviour. Everything here is pure, so the same
text gives the same instructions, and a property test can throw anything at it.

    >>> from sampan.dockerfile.stages import read
    >>> file = read("FROM busybox AS base\\nRUN echo hi\\n")
    >>> [type(each).__name__ for each in file.stages[0].instructions]
    ['Run']

Workers import `ignore` and `modes`; so nothing is imported here, and those two import nothing heavy.
"""
