"""`sampan build`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.command import flag, listing, option, verb
from sampan.cli.values import BYTES, STRING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sampan.cli.session import Session
    from sampan.client.solving import Plan


@verb(
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    arity=(1, 1),
    aliases=("image build", "build", "builder build"),
    examples="$ sampan build -t app .\n$ sampan build -t app -f Dockerfile.test --build-arg VERSION=2 .\n"
    "$ sampan build --target dist -o out .",
)
@listing("--add-host", kind=STRING, help='Add a custom host-to-IP mapping ("host:ip")')
@listing(
    "--allow", kind=STRING, help='Allow extra privileged entitlement ("network.host", "security.insecure")'
)
@listing("--annotation", kind=STRING, help='Add annotation to the image ("index:key=value")')
@listing("--attest", kind=STRING, help='Attestation parameters ("type=sbom,generator=image")')
@listing("--build-arg", kind=STRING, help="Set build-time variables")
@listing("--build-context", kind=STRING, help='Additional build contexts ("name=path")')
@listing(
    "--cache-from",
    kind=STRING,
    help='External cache sources ("user/app:cache", "type=registry,ref=user/app")',
)
@listing(
    "--cache-to", kind=STRING, help='Cache export destinations ("type=inline", "type=registry,ref=user/app")'
)
@option(
    "--call", kind=STRING, default="build", help='Method for evaluating build ("check", "outline", "targets")'
)
@option("--cgroup-parent", kind=STRING, default="", help="Set the parent cgroup for the RUN instructions")
@flag("--check", help='Shorthand for "--call=check"')
@flag("--compress", help="Nothing to be done", hidden=True)
@option("-f", "--file", kind=STRING, default="", help='Name of the Dockerfile (default: "PATH/Dockerfile")')
@flag("--force-rm", help="Nothing is left that could be removed", hidden=True)
@option("--iidfile", kind=STRING, default="", help="Write the image ID to a file")
@listing("--label", kind=STRING, help="Set metadata for an image")
@flag("--load", help='Shorthand for "--output=type=docker"')
@option("--metadata-file", kind=STRING, default="", help="Write build result metadata to a file")
@option(
    "--network", kind=STRING, default="", help="Set the networking mode for the RUN instructions during build"
)
@flag("--no-cache", help="Do not use cache when building the image")
@listing("--no-cache-filter", kind=STRING, help="Do not cache specified stages")
@listing("-o", "--output", kind=STRING, help='Output destination ("type=local,dest=path")')
@listing("--platform", kind=STRING, help="Set target platform for build")
@option(
    "--progress",
    kind=STRING,
    default="",
    help='Set type of progress output ("auto", "plain", "tty", "rawjson", "quiet")',
)
@option("--provenance", kind=STRING, help='Shorthand for "--attest=type=provenance"')
@flag("--pull", help="Always attempt to pull all referenced images")
@flag("--push", help='Shorthand for "--output=type=registry"')
@flag("-q", "--quiet", help="Suppress the build output and print image ID on success")
@flag("--rm", help="Nothing is left that could be removed", hidden=True)
@option("--sbom", kind=STRING, help='Shorthand for "--attest=type=sbom"')
@listing("--secret", kind=STRING, help='Secret to expose to the build ("id=mysecret[,src=/local/secret]")')
@option("--shm-size", kind=BYTES, default=0, help='Shared memory size for build containers ("64m")')
@listing(
    "--ssh",
    kind=STRING,
    help='SSH agent socket or keys to expose to the build ("default|<id>[=<socket>|<key>[,<key>]]")',
)
@listing("-t", "--tag", kind=STRING, help='Name and optionally a tag in the "name:tag" format')
@option("--target", kind=STRING, default="", help="Set the target build stage to build")
@listing("--ulimit", kind=STRING, help="Ulimit options")
def build(session: Session, args: tuple[str, ...], **given: Any) -> None:
    from sampan.cli import buildsources
    from sampan.cli.buildagents import agents
    from sampan.cli.calling import read_call, show_answer
    from sampan.cli.progress.choosing import Told
    from sampan.client.solving import BuildFailed, solve

    call = read_call("check" if given["check"] else given["call"])
    plan = _plan(args[0], given)
    if call is not None:
        plan.ask(f"frontend.{call.name}")
    told = Told("quiet" if given["quiet"] else given["progress"])
    with agents(given["ssh"]) as plan.agents:
        try:
            response = solve(session.api, plan, told.show)
        except BuildFailed as error:
            told.finish(failed=True)
            told.explain(error, sys.stderr)
            raise
        except BaseException:
            told.finish(failed=True)
            raise
    told.finish(failed=False)
    if call is not None:
        show_answer(call, response)
        return
    buildsources.name_caches(plan, response)
    _report(response, given)


def _report(response: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """What is printed and written of what came out."""
    id = response.get("containerimage.digest", "")
    if given["quiet"] and id:
        print(id)
    if given["iidfile"]:
        with open(given["iidfile"], "w") as file:
            file.write(id)
    if given["metadata_file"]:
        import json

        with open(given["metadata_file"], "w") as file:
            json.dump({name: _readable(value) for name, value in response.items()}, file, indent=2)


def _readable(value: str) -> Any:
    """Structures come in base64."""
    import base64
    import json

    try:
        found = json.loads(base64.b64decode(value, validate=True))
    except ValueError:
        return value
    return found if isinstance(found, dict) else value


def _plan(context: str, given: Mapping[str, Any]) -> Plan:
    from sampan.cli import buildflags, buildsources
    from sampan.cli.credentials import stored_login
    from sampan.client.solving import Plan

    plan = Plan()
    buildsources.set_context(plan, context, given["file"])
    for text in given["build_context"]:
        buildsources.add_context(plan, text)
    plan.options |= _options(given)
    plan.options |= buildflags.attestations(given["attest"], given["provenance"], given["sbom"])
    buildflags.add_outputs(
        plan,
        given["output"],
        given["tag"],
        buildflags.annotated(given["annotation"]),
        push=given["push"],
        load=given["load"],
    )
    for text in given["cache_from"]:
        buildsources.cache_import(plan, *buildflags.entry(text, "--cache-from"))
    for text in given["cache_to"]:
        buildsources.cache_export(plan, *buildflags.entry(text, "--cache-to"))
    plan.provenance = buildflags.provenance_told() if given["metadata_file"] else ""
    plan.entitlements = list(given["allow"]) + ["network.host"] * (given["network"] == "host")
    plan.secrets = dict(buildflags.secret(text) for text in given["secret"])
    plan.credentials = lambda host: stored_login(host)._asdict()
    return plan


def _options(given: Mapping[str, Any]) -> dict[str, str]:
    """Flags as the frontend's options."""
    from sampan.cli import buildflags

    arguments = _pairs(given["build_arg"], os.environ.get)
    options = {f"build-arg:{name}": value for name, value in arguments.items() if value is not None}
    options |= {f"label:{name}": value or "" for name, value in _pairs(given["label"], lambda _: "").items()}
    single = {
        "add-hosts": buildflags.hosts(given["add_host"]),
        "cgroup-parent": given["cgroup_parent"],
        "force-network-mode": given["network"],
        "image-resolve-mode": "pull" if given["pull"] else "",
        "no-cache": ",".join(given["no_cache_filter"]),
        "platform": ",".join(given["platform"]),
        "shm-size": str(given["shm_size"]) if given["shm_size"] else "",
        "target": given["target"],
        "ulimit": ",".join(given["ulimit"]),
    }
    options |= {name: value for name, value in single.items() if value}
    if given["no_cache"]:
        options["no-cache"] = ""
    return options


def _pairs(given: Sequence[str], default: Callable[[str], str | None]) -> dict[str, str | None]:
    """`name=value` flags; a name alone takes what `default` says of it."""
    found = (text.partition("=") for text in given)
    return {name: value if equals else default(name) for name, equals, value in found}
