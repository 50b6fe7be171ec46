"""Go's text/template, as much of it as Docker's `--format` uses.

    Template("{{.Name}}: {{join .Tags \\", \\"}}").render({"Name": "web", "Tags": ["a", "b"]})

Actions: fields, variables, pipelines, parentheses, `if`/`else if`/`else`, `range` (with `break`, `continue`), `with`, comments
and trim markers. `define`, `template` and `block` are refused: a format string has one template.
"""

from sampan.cli.gotemplate.evaluate import Template, TemplateError

__all__ = ["Template", "TemplateError"]
