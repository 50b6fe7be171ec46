"""Where every verb lives: name → module, attribute, one line of help. Nothing is imported from here."""

from __future__ import annotations

from typing import NamedTuple


class Home(NamedTuple):
    """A command and where it is defined."""

    module: str
    attribute: str
    help: str


_CONTAINER = {
    "attach": Home(
        "attaching", "attach", "Attach local standard input, output, and error streams to a running container"
    ),
    "commit": Home("image_making", "commit", "Create a new image from a container's changes"),
    "cp": Home("copying", "cp", "Copy files/folders between a container and the local filesystem"),
    "create": Home("running", "create", "Create a new container"),
    "diff": Home(
        "container_details", "diff", "Inspect changes to files or directories on a container's filesystem"
    ),
    "exec": Home("executing", "exec_", "Execute a command in a running container"),
    "export": Home("image_making", "export", "Export a container's filesystem as a tar archive"),
    "kill": Home("lifecycle", "kill", "Kill one or more running containers"),
    "logs": Home("container_details", "logs", "Fetch the logs of a container"),
    "pause": Home("lifecycle", "pause", "Pause all processes within one or more containers"),
    "port": Home("container_details", "port", "List port mappings or a specific mapping for the container"),
    "rename": Home("lifecycle", "rename", "Rename a container"),
    "restart": Home("lifecycle", "restart", "Restart one or more containers"),
    "rm": Home("lifecycle", "rm", "Remove one or more containers"),
    "run": Home("running", "run", "Create and run a new container from an image"),
    "start": Home("attaching", "start", "Start one or more stopped containers"),
    "stats": Home("statistics", "stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": Home("lifecycle", "stop", "Stop one or more running containers"),
    "top": Home("container_details", "top", "Display the running processes of a container"),
    "unpause": Home("lifecycle", "unpause", "Unpause all processes within one or more containers"),
    "update": Home("updating", "update", "Update configuration of one or more containers"),
    "wait": Home("lifecycle", "wait", "Block until one or more containers stop, then print their exit codes"),
}

_IMAGE = {
    "build": Home("building", "build", "Build an image from a Dockerfile"),
    "history": Home("image_list", "history", "Show the history of an image"),
    "import": Home(
        "image_making", "import_", "Import the contents from a tarball to create a filesystem image"
    ),
    "load": Home("image_making", "load", "Load an image from a tar archive or STDIN"),
    "pull": Home("image_making", "pull", "Download an image from a registry"),
    "push": Home("registries", "push", "Upload an image to a registry"),
    "save": Home(
        "image_making", "save", "Save one or more images to a tar archive (streamed to STDOUT by default)"
    ),
    "tag": Home("image_list", "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
}

GROUPS: dict[str, tuple[str, dict[str, Home]]] = {
    "builder": (
        "Manage builds",
        {
            "build": Home("building", "build", "Build an image from a Dockerfile"),
            "prune": Home("pruning", "builder_prune", "Remove build cache"),
        },
    ),
    "container": (
        "Manage containers",
        {
            **_CONTAINER,
            "inspect": Home(
                "inspecting", "container_inspect", "Display detailed information on one or more containers"
            ),
            "ls": Home("container_list", "ps", "List containers"),
            "prune": Home("pruning", "container_prune", "Remove all stopped containers"),
        },
    ),
    "image": (
        "Manage images",
        {
            **_IMAGE,
            "bootstrap": Home(
                "image_making", "bootstrap", "Make a base image from this machine's packages, without any hub"
            ),
            "copy": Home(
                "image_copy",
                "copy",
                "Copy an image between registries, OCI layouts, archives and the engine's store",
            ),
            "inspect": Home(
                "inspecting", "image_inspect", "Display detailed information on one or more images"
            ),
            "ls": Home("image_list", "images", "List images"),
            "prune": Home("pruning", "image_prune", "Remove unused images"),
            "rm": Home("image_list", "rmi", "Remove one or more images"),
            "sign": Home("image_sign", "sign", "Sign an image at its registry"),
            "verify": Home(
                "image_sign",
                "verify",
                "Say whether an image at its registry is signed by a key, or taken by a trust policy",
            ),
        },
    ),
    "manifest": (
        "Manage Docker image manifests and manifest lists",
        {
            "annotate": Home("manifest", "annotate", "Add additional information to a local image manifest"),
            "create": Home(
                "manifest", "create", "Create a local manifest list for annotating and pushing to a registry"
            ),
            "inspect": Home("manifest", "inspect", "Display an image manifest, or manifest list"),
            "push": Home("manifest", "push", "Push a manifest list to a repository"),
            "rm": Home("manifest", "rm", "Delete one or more manifest lists from local storage"),
        },
    ),
    "network": (
        "Manage networks",
        {
            "connect": Home("network", "connect", "Connect a container to a network"),
            "create": Home("network", "create", "Create a network"),
            "disconnect": Home("network", "disconnect", "Disconnect a container from a network"),
            "inspect": Home(
                "inspecting", "network_inspect", "Display detailed information on one or more networks"
            ),
            "ls": Home("network", "ls", "List networks"),
            "prune": Home("pruning", "network_prune", "Remove all unused networks"),
            "rm": Home("network", "rm", "Remove one or more networks"),
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": Home("volume", "create", "Create a volume"),
            "inspect": Home(
                "inspecting", "volume_inspect", "Display detailed information on one or more volumes"
            ),
            "ls": Home("volume", "ls", "List volumes"),
            "prune": Home("pruning", "volume_prune", "Remove unused local volumes"),
            "rm": Home("volume", "rm", "Remove one or more volumes"),
        },
    ),
    "system": (
        "Manage the engine",
        {
            "check": Home(
                "system_check", "check", "Say whether this machine has everything that the engine needs"
            ),
            "df": Home("disk_usage", "df", "Show docker disk usage"),
            "disable": Home("system_enable", "disable", "Take the unit away that `system enable` installed"),
            "enable": Home(
                "system_enable",
                "enable",
                "Install a socket-activated unit, so that any client starts the engine",
            ),
            "events": Home("system", "events", "Get real time events from the server"),
            "info": Home("system", "info", "Display system-wide information"),
            "prune": Home("pruning", "system_prune", "Remove unused data"),
        },
    ),
}

COMMON = ("run", "exec", "ps", "build", "pull", "images", "version", "info")

TOP: dict[str, Home] = {
    **_CONTAINER,
    **_IMAGE,
    "env": Home("environment", "env", "Print what points other clients at this engine"),
    "events": Home("system", "events", "Get real time events from the server"),
    "images": Home("image_list", "images", "List images"),
    "info": Home("system", "info", "Display system-wide information"),
    "inspect": Home("inspecting", "inspect", "Return low-level information on Docker objects"),
    "login": Home("registries", "login", "Authenticate to a registry"),
    "logout": Home("registries", "logout", "Log out from a registry"),
    "ps": Home("container_list", "ps", "List containers"),
    "search": Home("registries", "search", "Search Docker Hub for images"),
    "rmi": Home("image_list", "rmi", "Remove one or more images"),
    "version": Home("version", "version", "Show the version information"),
    "completion": Home("completion", "completion", "Print the completion script of a shell"),
}

ALIASES: dict[str, dict[str, str]] = {
    "builder": {},
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "manifest": {},
    "network": {"list": "ls", "remove": "rm"},
    "volume": {"list": "ls", "remove": "rm"},
    "system": {},
}
