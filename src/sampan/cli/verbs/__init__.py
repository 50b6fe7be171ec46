"""The verbs, by subject. `sampan.cli.commands` says which is where."""
