"""Giving back pages: what a process holds is the same before and after, whatever happens to the helper."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEGIN = """
import gc, json, os
import sampan.linux.pages as pages

def work(rounds):
    # Objects of every kind and size, made and dropped, and what remains is looked at again.
    kept = {}
    for number in range(rounds):
        kept[number] = [json.loads(json.dumps({"n": number, "text": "x" * (number % 3000)})), bytes(number * 7 % 9000)]
        if number % 3 == 0:
            kept.pop(number // 2, None)
    gc.collect()
    return kept

def check(kept):
    for number, (document, data) in kept.items():
        assert document == {"n": number, "text": "x" * (number % 3000)} and data == bytes(number * 7 % 9000)

def own():
    with open("/proc/self/smaps_rollup") as text:
        return next(int(line.split()[1]) for line in text if line.startswith("Private_Dirty"))

def in_child(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(script: str) -> None:
    """In a process of its own: a heap that went wrong takes its process with it."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "whole\n"


def test_process_lives_on_over_its_file() -> None:
    run("""
before = work(3000)
assert pages.lay_down() and pages.file() >= 0
with open("/proc/self/maps") as text:
    assert pages.NAME in text.read()
check(before)
check(work(6000))
in_child(lambda: check(work(6000)))
check(before)
print("whole")
""")


def test_child_gives_back_and_is_whole_each_time() -> None:
    run("""
before = work(3000)
assert pages.lay_down()
def life():
    for _ in range(5):
        mine = work(2000)
        assert pages.give_back()
        check(mine)
        check(before)
in_child(life)
check(before)
print("whole")
""")


@pytest.mark.parametrize(
    "helper",
    [
        "pages._is_waiting = lambda *a: os.kill(os.getpid(), 9)",
        "pages._is_waiting = lambda *a: False",
        "pages._extend = lambda *a: os.kill(os.getpid(), 9)",
        "pages._unchanged = lambda *a: []",
        "pages._PATIENCE = 0.05; pages._is_waiting = lambda *a: os.kill(os.getpid(), 19)",
    ],
    ids=["killed", "not in time", "killed later", "nothing", "stopped"],
)
def test_helper_that_does_not_help_costs_nothing_but_memory(helper: str) -> None:
    run(f"""
assert pages.lay_down()
{helper}
def life():
    mine = work(2000)
    assert pages.give_back()
    check(mine)
in_child(life)
print("whole")
""")


def test_without_a_file_nothing_is_given_back() -> None:
    run("""
assert pages.file() == -1 and pages.give_back() is False
print("whole")
""")
