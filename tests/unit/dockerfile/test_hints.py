"""Advice for beginners: what gets it, and what must not."""

from __future__ import annotations

import pytest

from sampan.dockerfile.hints import hints
from sampan.dockerfile.stages import read


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("RUN cd /tmp", ["run-cd"]),
        ("RUN cd /tmp && make", []),
        ('RUN ["cd", "/tmp"]', ["run-cd"]),
        ("RUN mkdir /a; cd /a", []),
        ("RUN service nginx start", ["run-service"]),
        ("RUN apt-get install -y nginx && systemctl start nginx", ["run-service"]),
        ("RUN echo service nginx start", []),
        ("RUN apt-get -qq update", ["apt-update-alone"]),
        ("RUN apt-get update && apt-get install -y curl", []),
        ("RUN <<EOF\napt-get update\napt-get install -y curl\nEOF", []),
        ("COPY . .\nRUN npm install", ["copy-before-install"]),
        ("ADD ./ /app\nRUN pip install -r requirements.txt", ["copy-before-install"]),
        ("COPY package.json .\nRUN npm ci\nCOPY . .", []),
        ("COPY --from=busybox . .\nRUN npm ci", []),
        ("COPY . .\nRUN make", []),
        ("COPY . .\nRUN npm install-test", []),
    ],
)
def test_each_classic(body: str, expected: list[str]) -> None:
    file = read(f"FROM busybox\n{body}\n")
    assert [hint.topic for hint in hints(file)] == expected


def test_a_copy_of_one_stage_says_nothing_of_another() -> None:
    assert hints(read("FROM busybox\nCOPY . .\nFROM busybox\nRUN npm ci\n")) == []


def test_they_come_in_the_files_order_with_their_places() -> None:
    file = read("FROM busybox\nCOPY . .\nRUN cd /tmp\nRUN npm ci\n")
    assert [(hint.topic, hint.place.first) for hint in hints(file)] == [
        ("copy-before-install", 2),
        ("run-cd", 3),
    ]
    assert "line 4" in hints(file)[0].text
