"""Logins as docker keeps them: `config.json` in the client's directory, or programs that it names (credential helpers).

A helper is `docker-credential-NAME`, called with `get`, `store` or `erase`, its input and output on stdin and stdout
(`credHelpers` names one per registry, `credsStore` one for all the others).
"""

from __future__ import annotations

import base64
import json
import subprocess
from typing import Any, NamedTuple

from sampan.cli.configfile import read_config, write_config
from sampan.errors import InvalidParameter, SystemFailure
from sampan.names.reference import DEFAULT_DOMAIN

HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"
"""The user's name under which helpers keep an identity token."""
_HELPER_SECONDS = 60


class Login(NamedTuple):
    """Who one is at a registry; all empty: nobody."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Login({'hidden' if self.username or self.identity_token else 'nobody'})"


def key_of(domain: str) -> str:
    """What a registry's login is kept under."""
    return HUB_KEY if domain in ("", DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io") else domain


def stored_login(domain: str) -> Login:
    """The login that is kept for a registry. Raises `SystemFailure` when a helper fails."""
    config, key = read_config(), key_of(domain)
    helper = _helper(config, key)
    if helper:
        return _from_helper(helper, key)
    entries = config.get("auths") or {}
    for name in (
        key,
        f"https://{domain}",
        f"http://{domain}",
        f"https://{domain}/v1/",
        f"https://{domain}/v2/",
    ):
        if name in entries:
            return _unpacked(entries[name])
    return Login()


def store_login(domain: str, login: Login) -> bool:
    """Keep a login; whether it lies unencrypted in the file now."""
    config, key = read_config(), key_of(domain)
    helper = _helper(config, key)
    auths = config.setdefault("auths", {})
    if helper:
        user, secret = (_TOKEN_USER, login.identity_token) if login.identity_token else login[:2]
        _call(helper, "store", json.dumps({"ServerURL": key, "Username": user, "Secret": secret}))
        auths[key] = {}  # docker notes so that there is a login, and where not to look for it
    else:
        packed = base64.b64encode(
            f"{login.username}:{'' if login.identity_token else login.password}".encode()
        ).decode()
        auths[key] = {"auth": packed} | (
            {"identitytoken": login.identity_token} if login.identity_token else {}
        )
    write_config(config)
    return not helper


def erase_login(domain: str) -> bool:
    """Forget a login; False when there was none."""
    config, key = read_config(), key_of(domain)
    helper = _helper(config, key)
    if helper:
        _call(helper, "erase", key)
    found = (config.get("auths") or {}).pop(key, None) is not None
    if found:
        write_config(config)
    return found


def auth_header(domain: str) -> dict[str, str]:
    """The X-Registry-Auth header with the login for a registry, for requests that the engine passes on."""
    return {"X-Registry-Auth": _encoded(_fields(domain))}


def config_header() -> dict[str, str]:
    """The X-Registry-Config header with every login that is kept, for builds: their base images may be anybody's."""
    config = read_config()
    keys = [*(config.get("auths") or {}), *(config.get("credHelpers") or {})]
    logins = {key: _fields(key) for key in dict.fromkeys(keys)}
    return {"X-Registry-Config": _encoded({key: fields for key, fields in logins.items() if fields})}


def _fields(domain: str) -> dict[str, str]:
    """A registry's login in the API's form (`AuthConfig`); {} when there is none."""
    login = stored_login(domain)
    fields = {
        "username": login.username,
        "password": login.password,
        "identitytoken": login.identity_token,
        "serveraddress": key_of(domain),
    }
    return {name: value for name, value in fields.items() if value} if login != Login() else {}


def _encoded(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def _helper(config: dict[str, Any], key: str) -> str:
    own = config.get("credHelpers") or {}
    return str(
        own.get(key) or own.get(DEFAULT_DOMAIN if key == HUB_KEY else key) or config.get("credsStore") or ""
    )


def _from_helper(helper: str, key: str) -> Login:
    output = _call(helper, "get", key)
    if output is None:
        return Login()
    try:
        found = json.loads(output)
        user, secret = str(found.get("Username", "")), str(found.get("Secret", ""))
    except (ValueError, AttributeError):
        raise SystemFailure(f"docker-credential-{helper}: its answer is no JSON object") from None
    return Login(identity_token=secret) if user == _TOKEN_USER else Login(user, secret)


def _call(helper: str, action: str, text: str) -> str | None:
    """Run a helper; None when it has no such login. Raises `SystemFailure` with what it said (never with what it was given)."""
    if "/" in helper:
        raise InvalidParameter(f"credential helper {helper!r}: it must be the end of a program's name")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, action],
            input=text,
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise SystemFailure(
            f'error getting credentials: exec: "{program}": executable file not found in $PATH'
        ) from None
    except subprocess.TimeoutExpired:
        raise SystemFailure(f"error getting credentials: {program} did not answer") from None
    if done.returncode == 0:
        return done.stdout
    said = (done.stdout + done.stderr).strip()
    if "credentials not found" in said:
        return None
    raise SystemFailure(
        f"error {action} credentials - err: exit status {done.returncode}, out: `{said[:500]}`"
    )


def _unpacked(entry: dict[str, Any]) -> Login:
    username, password = str(entry.get("username", "")), str(entry.get("password", ""))
    if entry.get("auth"):
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except ValueError:
            raise InvalidParameter(
                "invalid auth configuration file: auth must be username:password in base64"
            ) from None
    return Login(username, password.rstrip("\0"), str(entry.get("identitytoken", "")))
