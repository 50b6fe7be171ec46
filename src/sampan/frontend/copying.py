"""`COPY` and `ADD` as file operations."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from sampan.dockerfile.expand import expand_document
from sampan.dockerfile.instructions import Add
from sampan.dockerfile.instructions import Copy as CopyInstruction
from sampan.dockerfile.modes import parse_mode
from sampan.dockerfile.parse import Heredoc, heredoc_of
from sampan.dockerfile.source import DockerfileError
from sampan.errors import InvalidParameter
from sampan.frontend.remote import GitReference, file_name, git_reference, is_url
from sampan.frontend.stage import StageState, owner_of
from sampan.linux.path import absolute
from sampan.llb.fileop import Action, Copy, MakeFile
from sampan.llb.state import Meta, State, change, merge, source
from sampan.names.digest import parse_digest

INTERNAL = "[internal] "


def copy(stage: StageState, instruction: CopyInstruction, origin: State | None) -> list[str]:
    """Do it; `origin` is what is copied from. The paths of the origin that it looks at. Raises `DockerfileError`."""
    escape = stage.file.directives.escape
    words = [each for each in instruction.sources if heredoc_of(each, escape) is None]
    sources = [stage.expand(each) for each in words]
    _check(instruction, sources)
    work = _Copying(stage, instruction, origin)
    actions = [action for each in sources for action in work.actions_of(each)]
    actions += [work.inline(each) for each in instruction.files]
    meta = stage.meta(instruction)
    if instruction.link and not instruction.chmod:
        # A layer of its own, whatever it lies on: the base may change under it.
        linked = replace(meta, name=meta.name.replace("] ", "] LINK ", 1))
        stage.state = merge([stage.state, change(None, actions, meta, stage.llb_platform())], linked)
    else:
        stage.state = change(stage.state, actions, meta)
    stage.remember(work.told(sources), layer=True)
    return work.paths


class _Copying:
    """One instruction."""

    def __init__(self, stage: StageState, instruction: CopyInstruction, origin: State | None) -> None:
        self._stage = stage
        self._instruction = instruction
        self._origin = origin
        self._destination = stage.absolute(stage.expand(instruction.destination))
        self._chown = stage.expand(instruction.chown)
        self._owner = owner_of(self._chown) if self._chown else None
        self._chmod = stage.expand(instruction.chmod)
        self._mode = _mode(self._chmod)
        self._excludes = tuple(stage.expand(each) for each in instruction.excludes)
        self.paths: list[str] = []

    def actions_of(self, word: str) -> list[Action]:
        if isinstance(self._instruction, Add):
            repository = git_reference(word)
            if repository is not None:
                return [self._repository(self._instruction, repository)]
            if is_url(word):
                return [self._fetched(self._instruction, word)]
        return [self._local(word)]

    def inline(self, heredoc: Heredoc) -> Action:
        text = heredoc.text
        if heredoc.expands:
            text = expand_document(text, self._stage.lookup)
        made = change(
            None,
            [MakeFile("/" + heredoc.name, text.encode(errors="surrogateescape"))],
            Meta(name=INTERNAL + "preparing inline document"),
            self._stage.llb_platform(),
        )
        return self._copy(made, "/" + heredoc.name)

    def told(self, sources: Sequence[str]) -> str:
        """The line of history."""
        words = ["ADD" if isinstance(self._instruction, Add) else "COPY"]
        if self._instruction.parents:
            words.append("--parents")
        if self._chown:
            words.append(f"--chown={self._chown}")
        if self._chmod:
            words.append(f"--chmod={self._chmod}")
        words += [*sources, *(f"<<{each.name}" for each in self._instruction.files)]
        return " ".join([*words, self._stage.expand(self._instruction.destination), "# buildkit"])

    def _local(self, word: str) -> Action:
        path = absolute(word.lstrip("/"))
        include: tuple[str, ...] = ()
        required: tuple[str, ...] = ()
        if self._instruction.parents:
            pivot, found, below = word.partition("/./")
            pattern = absolute(below if found else word).lstrip("/")
            path = absolute(pivot.lstrip("/")) if found else "/"
            include = (pattern,)
            if not _is_pattern(path) and not _is_pattern(pattern):
                required = (posixpath.join(path, pattern),)
        self.paths.append(posixpath.join(path, include[0]) if include else path)
        if word.endswith("/") and path != "/" and not include:
            path += "/"
        unpack = isinstance(self._instruction, Add) and self._instruction.unpack is not False
        return Copy(
            self._origin,
            path,
            self._destination,
            owner=self._owner,
            mode=self._mode,
            unpack=unpack,
            include=include,
            exclude=self._excludes,
            required=required,
        )

    def _fetched(self, add: Add, url: str) -> Action:
        name = file_name(url)
        attributes = {"http.filename": name}
        if checksum := self._stage.expand(add.checksum):
            attributes["http.checksum"] = _digest(checksum)
        fetched = source(url, attributes, Meta(name=self._stage.titled(f"ADD {url}")))
        return self._copy(fetched, "/" + name, unpack=bool(add.unpack))

    def _repository(self, add: Add, reference: GitReference) -> Action:
        attributes = {"git.fullurl": reference.remote}
        if add.keep_git_dir:
            attributes["git.keepgitdir"] = "true"
        if checksum := self._stage.expand(add.checksum):
            attributes["git.checksum"] = checksum
        state = git_source(reference, attributes, Meta(name=self._stage.titled(f"ADD {reference.remote}")))
        return self._copy(state, "/", contents=True)

    def _copy(self, origin: State, path: str, *, unpack: bool = False, contents: bool = False) -> Copy:
        return Copy(
            origin,
            path,
            self._destination,
            owner=self._owner,
            mode=self._mode,
            follow_symlink=False,
            contents_only=contents,
            wildcard=False,
            empty_wildcard=False,
            unpack=unpack,
            exclude=self._excludes,
        )


def git_source(reference: GitReference, attributes: dict[str, str], meta: Meta) -> State:
    """A repository's files, at a ref and below a directory of it."""
    remote = reference.remote.partition("://")[2] or reference.remote.replace(":", "/", 1)
    fragment = f"#{reference.ref}" if reference.ref or reference.directory else ""
    if reference.directory:
        fragment += f":{reference.directory}"
    return source(f"git://{remote}{fragment}", attributes, meta)


def _check(instruction: CopyInstruction, sources: Sequence[str]) -> None:
    if isinstance(instruction, Add):
        if instruction.checksum and len(sources) != 1:
            raise DockerfileError("checksum can't be specified for multiple sources")
        if instruction.checksum and not (is_url(sources[0]) or git_reference(sources[0])):
            raise DockerfileError("checksum requires HTTP(S) or Git sources")
        return
    for each in sources:
        if is_url(each):
            raise DockerfileError("source can't be a URL for COPY")
        if git_reference(each) is not None and not each.startswith("github.com/"):
            raise DockerfileError("source can't be a git ref for COPY")


def _mode(text: str) -> int | str | None:
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        if any(digit not in "01234567" for digit in text) or int(text, 8) > 0o7777:
            raise DockerfileError(
                f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            )
        return int(text, 8)
    try:
        parse_mode(text)
    except InvalidParameter:
        raise DockerfileError("invalid syntax") from None
    return text


def _digest(text: str) -> str:
    try:
        return parse_digest(text)
    except InvalidParameter as error:
        raise DockerfileError(str(error)) from None


def _is_pattern(path: str) -> bool:
    return any(letter in path for letter in "*?[\\")
