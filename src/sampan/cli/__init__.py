"""The `sampan` command: docker's verbs, flags and output, over the Engine API.

`main` is the program, `commands` says where each verb lives (a verb's module is imported when it is used), `command` gives
click the manners of docker's command line, `session` is what every verb gets.
"""
