"""`engine.build(…)`."""

from __future__ import annotations

from pathlib import Path

import pytest

import sampan
from running_engine import RunningEngine
from sampan.errors import InvalidParameter, NotFound, NotSupported

pytestmark = pytest.mark.root


def test_an_image_of_files_in_memory(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame")
    dockerfile = """
FROM busybox AS build
ARG NAME
COPY greeting/text /text
RUN --mount=type=secret,id=a --mount=type=secret,id=b \\
    cat /run/secrets/a /run/secrets/b && echo && echo "$(cat /text), $NAME" > /said
FROM build AS other
RUN exit 1
FROM busybox AS last
COPY --from=build /said /
CMD ["cat", "/said"]
"""
    lines: list[str] = []
    kinds: set[str] = set()
    with engine.client() as client:
        image = client.build(
            {"greeting/text": "Hello", "Dockerfile": dockerfile},
            tag=["greeting", "greeting:2"],
            args={"NAME": "world"},
            labels={"by": "test"},
            secrets={"a": "open ", "b": tmp_path / "token"},
            log=lines.append,
            progress=lambda event: kinds.add(event["kind"]),
        )
        assert lines == ["open sesame"] and image.log == "open sesame\n"
        assert kinds >= {"vertex", "log"}
        assert client.run(image).output == client.run("greeting:2").output == "Hello, world\n"
        assert image.inspect()["Config"]["Labels"] == {"by": "test"}
        changed = client.build(
            {"greeting/text": "HELLO", "Dockerfile": dockerfile},
            args={"NAME": "world"},
            secrets={"a": "", "b": b""},
        )
        assert client.run(changed).output == "HELLO, world\n"
        image.remove()
        with pytest.raises(NotFound):
            client.images.inspect("greeting")
        with pytest.raises(sampan.BuildError):
            client.build({"Dockerfile": dockerfile, "greeting/text": ""}, target="other")


def test_a_directory_with_a_dockerfile_beside_it(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with engine.client() as client:
        image = client.build(tmp_path, dockerfile="FROM busybox\nCOPY file /\nCMD cat /file\n")
        assert client.run(image).output == "content"
        with pytest.raises(InvalidParameter, match="is a directory"):
            client.build(tmp_path / "file")
        with pytest.raises(InvalidParameter, match="needs a context"):
            client.build()


def test_a_failure_says_where_and_why(engine: RunningEngine) -> None:
    with engine.client() as client:
        with pytest.raises(sampan.BuildError) as failed:
            client.build(dockerfile="FROM busybox\nRUN echo almost; false\n")
        assert failed.value.log == "almost\n" and failed.value.step == "[2/2] RUN echo almost; false"
        assert "   2 | >>> RUN echo almost; false" in str(failed.value)
        with pytest.raises(sampan.BuildError, match="did you mean RUN"):
            client.build(dockerfile="FROM busybox\nRUM x\n")
        with pytest.raises(NotSupported, match="BUILDKIT_SBOM_SCAN_STAGE"):
            from sampan.client.solving import Plan, solve

            plan = Plan()
            plan.options |= {"attest:sbom": "", "build-arg:BUILDKIT_SBOM_SCAN_STAGE": "1"}
            solve(client.api, plan, lambda _: None)
