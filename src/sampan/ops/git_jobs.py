"""`git` in a worker: without anybody's configuration, hooks or credentials, and without asking.

The repository is hostile. Its files are only written, by git, into a directory of ours; what a build copies from there is opened
beneath that directory's root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from sampan.errors import InvalidParameter, NotFound, SystemFailure
from sampan.linux.process import set_parent_death_signal

Report = Callable[[dict[str, Any]], None]

_SECONDS = 1800
"""A fetch that takes longer is given up."""
_SETTINGS = (
    "protocol.allow=never",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    "protocol.git.allow=always",
    "protocol.ssh.allow=always",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "gc.auto=0",
    "transfer.fsckObjects=true",
)


def resolve_job(args: dict[str, Any], _fds: list[int], _report: Report) -> dict[str, Any]:
    """`{"commit": …, "ref": …}` of a branch, a tag, or the default branch. Raises `NotFound`."""
    wanted = args["ref"]
    patterns = [wanted, f"{wanted}^{{}}"] if wanted else ["HEAD"]
    lines = _git(args, "ls-remote", args["remote"], *patterns).splitlines()
    found = {ref: commit for commit, _, ref in (line.partition("\t") for line in lines)}
    for ref in (wanted or "HEAD", f"refs/heads/{wanted}", f"refs/tags/{wanted}"):
        if ref in found:
            # Of a tag that is an object of its own, the commit that it is on.
            return {"commit": found.get(f"{ref}^{{}}", found[ref]), "ref": ref}
    raise NotFound(f"repository does not contain ref {wanted or 'HEAD'}")


def checkout_job(args: dict[str, Any], _fds: list[int], _report: Report) -> None:
    """The files of a commit in `directory`, which is made."""
    directory, commit = args["directory"], args["commit"]
    os.mkdir(directory, 0o755)
    _git(args, "-C", directory, "init", "--quiet")
    _git(args, "-C", directory, "remote", "add", "origin", args["remote"])
    try:
        _git(
            args,
            "-C",
            directory,
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "origin",
            args["ref"] or commit,
        )
    except InvalidParameter:
        # Not every server gives a commit by its name.
        _git(
            args,
            "-C",
            directory,
            "fetch",
            "--quiet",
            "--tags",
            "origin",
            "+refs/heads/*:refs/remotes/origin/*",
        )
    _git(args, "-C", directory, "checkout", "--quiet", "--force", "--detach", commit)
    if args["submodules"] and os.path.exists(os.path.join(directory, ".gitmodules")):
        _git(args, "-C", directory, "submodule", "update", "--init", "--recursive", "--depth=1")
    if not args["keep"]:
        for top, names, files in os.walk(directory):
            if ".git" in names:
                shutil.rmtree(os.path.join(top, ".git"))
                names.remove(".git")
            elif ".git" in files:
                os.unlink(os.path.join(top, ".git"))


def _git(args: dict[str, Any], *words: str) -> str:
    """Run it. Raises `InvalidParameter` with what it says, `SystemFailure` where there is no git."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": args["home"],
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_SSH_COMMAND": f"ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
        f" -o UserKnownHostsFile={args['home']}/known_hosts",
        "LC_ALL": "C",
    }
    # Not on the command line, which others can read.
    environment["GIT_CONFIG_COUNT"] = str(len(args["headers"]))
    for number, header in enumerate(args["headers"]):
        environment[f"GIT_CONFIG_KEY_{number}"] = "http.extraHeader"
        environment[f"GIT_CONFIG_VALUE_{number}"] = header
    if args["agent"]:
        environment["SSH_AUTH_SOCK"] = args["agent"]
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        if name in os.environ:
            environment[name] = os.environ[name]
    try:
        done = subprocess.run(
            ["git", *settings, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
            preexec_fn=lambda: set_parent_death_signal(signal.SIGKILL),
        )
    except FileNotFoundError:
        raise SystemFailure(
            "git is needed for this source, and is not installed on the engine's machine"
        ) from None
    except subprocess.TimeoutExpired:
        raise InvalidParameter(f"git took longer than {_SECONDS // 60} minutes") from None
    if done.returncode:
        raise InvalidParameter(f"failed to fetch {args['remote']}: git: {done.stderr.strip()[-2000:]}")
    return done.stdout
