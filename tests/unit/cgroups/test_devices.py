"""Folding device rules, held against a plain reading of the specification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cgroups import CgroupError
from sampan.cgroups.devices import ANY, RUNTIME_RULES, DeviceKey, fold
from sampan.oci.defaults import device_rules
from sampan.oci.runtime import DeviceCgroup


def allowed(rules: list[DeviceCgroup], kind: str, major: int, minor: int, access: str) -> bool:
    """One letter of access, decided by the last rule that matches."""
    verdict = False
    runtime: list[DeviceCgroup] = [
        {"allow": True, "type": t, "major": ma, "minor": mi, "access": a} for t, ma, mi, a in RUNTIME_RULES
    ]
    for rule in [*rules, *runtime]:
        if (rule.get("type") or "a") == "a":
            verdict = rule["allow"]
            continue
        matches = (
            rule["type"] == kind
            and rule.get("major", ANY) in (ANY, major)
            and rule.get("minor", ANY) in (ANY, minor)
            and access in rule.get("access", "rwm")
        )
        if matches:
            verdict = rule["allow"]
    return verdict


rule = st.builds(
    lambda allow, kind, major, minor, access: DeviceCgroup(
        allow=allow, type=kind, major=major, minor=minor, access="".join(sorted(access))
    ),
    st.booleans(),
    st.sampled_from(["a", "b", "c", "c"]),
    st.sampled_from([ANY, 1, 5, 10]),
    st.sampled_from([ANY, 0, 3, 229]),
    st.sets(st.sampled_from("rwm"), min_size=1),
)


@given(
    st.lists(rule, max_size=8),
    st.sampled_from("bc"),
    st.sampled_from([1, 5, 10, 11]),
    st.sampled_from([0, 3, 229, 9]),
    st.sampled_from("rwm"),
)
def test_fold_means_what_the_rules_mean(
    rules: list[DeviceCgroup], kind: str, major: int, minor: int, access: str
) -> None:
    try:
        devices = fold(rules)
    except CgroupError:
        return  # a part of a broader rule taken away: refused rather than approximated
    excepted = any(
        key.type == kind and key.major in (ANY, major) and key.minor in (ANY, minor) and access in held
        for key, held in devices.exceptions.items()
    )
    assert (devices.allow_all is not excepted) is allowed(rules, kind, major, minor, access)


def test_docker_defaults() -> None:
    devices = fold(device_rules())
    assert not devices.allow_all
    assert devices.exceptions[DeviceKey("c", 1, 3)] == "rwm"
    assert devices.exceptions[DeviceKey("b", ANY, ANY)] == "m"
    assert DeviceKey("c", 10, 229) not in devices.exceptions


def test_privileged_needs_no_exception() -> None:
    assert fold(device_rules(privileged=True)) == (True, {})


def test_a_rule_that_cuts_across_another_is_refused() -> None:
    across: list[DeviceCgroup] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "b", "major": ANY, "minor": 0, "access": "r"},
        {"allow": False, "type": "b", "major": 5, "minor": ANY, "access": "r"},
    ]
    with pytest.raises(CgroupError, match=r"\[b 5:\* r\] would take away a part of \[b \*:0 r\]"):
        fold(across)


def test_a_hole_in_a_broader_rule_is_refused() -> None:
    with pytest.raises(CgroupError, match=r"\[c 8:0 r\] would take away a part of \[c 8:\* rwm\]"):
        fold(
            [
                {"allow": True, "type": "c", "major": 8, "access": "rwm"},
                {"allow": False, "type": "c", "major": 8, "minor": 0, "access": "r"},
            ]
        )
