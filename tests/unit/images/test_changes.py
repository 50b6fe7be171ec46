"""`--change`: Dockerfile instructions applied to a configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.dockerfile.expand import expand
from sampan.dockerfile.words import pairs
from sampan.errors import InvalidParameter
from sampan.images.changes import apply_changes
from sampan.oci.image import ContainerConfig, Healthcheck


def change(*changes: str, base: ContainerConfig | None = None) -> ContainerConfig:
    return apply_changes(base or ContainerConfig(), changes)


def test_cmd_forms() -> None:
    assert change('CMD ["a", "b c"]').cmd == ["a", "b c"]
    assert change("CMD echo $HOME").cmd == ["/bin/sh", "-c", "echo $HOME"]
    assert change("cmd [not json").cmd == ["/bin/sh", "-c", "[not json"]


def test_entrypoint_resets_an_inherited_cmd_but_not_a_new_one() -> None:
    base = ContainerConfig(cmd=["old"])
    assert change('ENTRYPOINT ["x"]', base=base).cmd is None
    both = change('CMD ["new"]', 'ENTRYPOINT ["x"]', base=base)
    assert (both.entrypoint, both.cmd) == (["x"], ["new"])
    assert base.cmd == ["old"], "the given configuration is left alone"


def test_env_replaces_in_place_and_expands() -> None:
    base = ContainerConfig(env=["PATH=/bin", "A=1"])
    assert change("ENV PATH=$PATH:/opt B='$A'", "ENV A two words", base=base).env == [
        "PATH=/bin:/opt",
        "A=two words",
        "B=$A",
    ]
    assert change('ENV X="a b" Y=c\\ d Z=${NONE:-z}').env == ["X=a b", "Y=c d", "Z=z"]


def test_label_expose_volume_user_workdir_stopsignal_onbuild() -> None:
    config = change(
        'LABEL a="x y" b=2',
        "EXPOSE 80 53/udp 8000-8001",
        'VOLUME ["/data", "/more"]',
        "VOLUME /third",
        "USER me:you",
        "WORKDIR srv",
        "WORKDIR ../x",
        "STOPSIGNAL SIGQUIT",
        "ONBUILD RUN make",
    )
    assert config.labels == {"a": "x y", "b": "2"}
    assert sorted(config.exposed_ports or {}) == ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]
    assert list(config.volumes or {}) == ["/data", "/more", "/third"]
    assert (config.user, config.working_dir, config.stop_signal) == ("me:you", "/x", "SIGQUIT")
    assert config.on_build == ["RUN make"]


def test_healthcheck() -> None:
    config = change("HEALTHCHECK --interval=5s --retries=3 CMD wget -q localhost")
    assert config.healthcheck == Healthcheck(
        test=["CMD-SHELL", "wget -q localhost"], interval=5_000_000_000, retries=3
    )
    assert change("HEALTHCHECK NONE").healthcheck == Healthcheck(test=["NONE"])


def test_one_change_may_hold_several_lines() -> None:
    assert change("# why\nENV A=1 \\\n  B=2\nUSER me").env == ["A=1", "B=2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("FROB x", "FROB is not a valid change command"),
        ("ENV A", "ENV must have two arguments"),
        ("USER", "USER requires exactly one argument"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
        ("ONBUILD ONBUILD RUN x", "isn't allowed"),
        ('ENV A="x', "matching double-quote"),
        ("ENV A=${x", "missing '}'"),
        ("HEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        change(text)
    assert message in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_applied_or_refused(text: str) -> None:
    for instruction in ("ENV", "LABEL", "CMD", "EXPOSE", "HEALTHCHECK", "VOLUME", "WORKDIR", ""):
        try:
            change(f"{instruction} {text}")
        except InvalidParameter:
            pass


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text(max_size=20), max_size=4))
def test_quoted_values_come_back(values: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        escaped = "".join("\\" + character if character in '"$\\' else character for character in value)
        return f'"{escaped}"'

    text = " ".join(f"{name}={quoted(value)}" for name, value in values.items())
    if values:
        assert {name: expand(value, {}.get) for name, value in pairs("ENV", text, "\\")} == values
