"""Images as package URLs: `pkg:docker/busybox@latest?platform=linux%2Famd64`."""

from __future__ import annotations

from urllib.parse import quote

from sampan.names.platform import Platform
from sampan.names.reference import is_identifier, parse_normalized


def image_purl(reference: str, platform: Platform | None = None, kind: str = "docker") -> str:
    """An image's reference as a package URL of `kind` (`docker`; `oci` for one that is of no registry). A digest is a qualifier.

    An image that is named by its id alone is `image` with that digest. Raises `InvalidParameter` for what is no reference.
    """
    id = reference.removeprefix("sha256:")
    if is_identifier(id):
        path, version, digest = "image", "", f"sha256:{id}"
    else:
        parsed = parse_normalized(reference).with_default_tag()
        path, version, digest = parsed.familiar_name(), parsed.tag, parsed.digest
    qualifiers = []
    if digest:
        qualifiers.append(f"digest={quote(digest, safe=':')}")
    if platform is not None:
        qualifiers.append(f"platform={quote(str(platform), safe='')}")
    named = "/".join(quote(part, safe=":") for part in path.split("/"))
    tagged = f"@{quote(version, safe='')}" if version else ""
    return f"pkg:{kind}/{named}{tagged}" + (f"?{'&'.join(qualifiers)}" if qualifiers else "")
