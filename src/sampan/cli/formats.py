"""What `--format` takes, as help tells it; line feeds stay where docker has them."""

from __future__ import annotations

_REFER = "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
TABLE_FORMAT = (
    "Format output using a custom template:\n"
    "'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n" + _REFER
)
VALUE_FORMAT = (
    "Format output using a custom template:\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n" + _REFER
)
