"""The `sampan` command: docker's verbs, flags and output, over the Engine API.

`main` is the program, `commands` says where each verb lives (a verb's module is imported when it is used), `flags` reads flags as
docker's do, `command` makes a function a verb, `session` is what every verb gets.
"""
