"""Go's templates, with the answers that Go gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.gotemplate import Template, TemplateError

DATA = {
    "Name": "/web",
    "Tags": ["a", "b"],
    "State": {"Pid": 7, "Running": True, "Error": ""},
    "Ports": {"80/tcp": [{"HostPort": "8080"}], "53/udp": None},
    "Size": 1234567890123,
    "Half": 0.5,
    "Nothing": None,
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{.Name}}", "/web"),
        ("{{.State.Pid}} {{ .State.Running }}", "7 true"),
        ("{{.State}}", "map[Error: Pid:7 Running:true]"),
        ("{{.Tags}}{{.Nothing}}", "[a b]<no value>"),
        ("{{.Size}} {{.Half}}", "1234567890123 0.5"),
        ("{{json .State}}", '{"Pid":7,"Running":true,"Error":""}'),
        ('{{join .Tags ","}}', "a,b"),
        ('{{index .Ports "80/tcp"}}', "[map[HostPort:8080]]"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range .Tags}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $t := .Tags}}{{if $i}}, {{end}}{{$i}}={{$t}}{{end}}", "0=a, 1=b"),
        ("{{range $p, $c := .Ports}}{{$p}} {{end}}", "53/udp 80/tcp "),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .Tags}}{{.}}{{break}}{{end}}", "a"),
        ("{{if .State.Error}}bad{{else if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{with .State}}{{.Pid}}{{$.Name}}{{end}}", "7/web"),
        ('{{if and .Name (eq .State.Pid 7 8)}}y{{end}}{{or .Nothing "d"}}', "yd"),
        ('{{.Name | printf "%-6s|%q" .Name}}', '/web  |"/web"'),
        (
            "{{upper .Name}}{{lower `A`}}{{title `ab cd`}}{{truncate .Name 2}}{{pad `x` 1 2}}.",
            "/WEBaAb Cd/w x  .",
        ),
        ("{{len .Tags}}{{slice .Name 1 3}}{{(split .Name `e`)}}", "2we[/w b]"),
        ("a {{- /* gone */ -}} b", "ab"),
        ("{{ .Name -}}   !", "/web!"),
        ('{{"}}"}}', "}}"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{println 1 `a`}}{{print 1 2 `a` 3}}", "1 a\n1 2a3"),
        ("{{lt 1 2}}{{ge 1 2}}{{ne `a` `b`}}{{not 0}}", "truefalsetruetrue"),
    ],
)
def test_renders(source: str, text: str) -> None:
    assert Template(source).render(DATA) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{.Name", "unclosed action"),
        ("{{.Foo}}", 'map has no entry for key "Foo"'),
        ("{{json}}", "wrong number of args for json: want 1 got 0"),
        ("{{foo .}}", 'function "foo" not defined'),
        ("{{if .Name}}x", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{.Name.First}}", "can't evaluate field First"),
        ("{{index .Tags 9}}", "index out of range"),
        ('{{define "x"}}{{end}}', "not supported"),
        ("{{break}}", "outside {{range}}"),
        ("{{}}", "missing value for command"),
    ],
)
def test_refuses(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match="template"):
        try:
            Template(source).render(DATA)
        except TemplateError as error:
            assert message in str(error)
            raise


@given(st.text(alphabet="{}.$ |()=:\"`'\\/*-abifendrange0129\n", max_size=40))
def test_any_text_renders_or_is_refused(source: str) -> None:
    try:
        Template(source).render(DATA)
    except TemplateError:
        pass


@given(st.text(max_size=40).filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(text: str) -> None:
    assert Template(text).render({}) == text
