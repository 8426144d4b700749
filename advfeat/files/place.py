"""What a user names -> a place: a path, ``~``, a ``file://`` URI or any other of fsspec, taken at its word.

A path is a path, whatever characters its name has, and no place is a pattern. A ``file://`` URI is read as
RFC 8089 writes it: ``file:///tmp/my%20exp`` is the folder ``/tmp/my exp``, and so is ``file:/tmp/my%20exp``.
What would name another machine's folder, or lost a slash, is not taken for a path of this one.
"""

import inspect
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import fsspec
from fsspec.implementations.local import LocalFileSystem

from advfeat.errors import first_line

Named = str | os.PathLike[str]
_URI = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_ONE_SLASH = re.compile(r"([a-z][a-z0-9+.-]*):(/(?!/).*)", re.IGNORECASE | re.DOTALL)
_ON_THIS_MACHINE = re.compile(r"(?:localhost)?(/.*)|(?:\.{1,2}|~[^/]*)(?:/.*)?", re.DOTALL)
"""What follows ``file://``: else it would be a host, or a relative path that lacks a dot."""

_S3 = ("s3", "s3a")
_BELOW_ANOTHER = "fo"
"""The argument of file systems that lie in a file or a folder of another one, such as zip's."""
_OF_S3 = {
    "use_listings_cache": False,
    "config_kwargs": {
        "connect_timeout": 5,
        "retries": {"max_attempts": 3},
        "signature_version": "s3v4",  # addresses would be signed as in version 2, which servers refuse
    },
}
"""Refuse fast and never read from a stale listing: other processes write to the same places."""


@dataclass(frozen=True)
class Place:
    """A file or a folder, there or not: how it is named anywhere, and how its file system names it."""

    uri: str
    """On this machine the absolute path, without links; elsewhere the URI without a slash at its end."""
    fs: Any
    root: str

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's file system."""
        return isinstance(self.fs, LocalFileSystem)

    def below(self, folder: str = "", depth: int | None = None) -> list[str]:
        """List the files below a folder of this place by their paths, sorted; none where there is no folder.

        With a ``depth`` only so many levels are looked at, and folders are listed too.
        """
        top = f"{self.root}/{folder}".rstrip("/")
        found = self.fs.find(top, maxdepth=depth, withdirs=depth is not None)
        return [str(path) for path in found if path != top]

    def names(self, folder: str) -> set[str]:
        """List what lies directly in a folder by its name, folders too; none where there is no folder."""
        top = f"{self.root}/{folder}"
        if self.is_local:
            return set(os.listdir(top)) if os.path.isdir(top) else set()  # noqa: PTH112, PTH208
        try:
            found = self.fs.ls(top, detail=False)
        except FileNotFoundError:
            return set()
        return {str(path).rstrip("/").rpartition("/")[2] for path in found}

    def listed(self, folder: str, start: str = "") -> Iterator[dict[str, Any]]:
        """Tell of the files below a folder, as its file system names it, whose paths in it begin so.

        As fsspec tells of them, at least their names, sizes and times. S3 is asked for no others, and for
        the next thousand when these were taken.
        """
        if not self._is_s3:
            found = self.fs.find(folder, detail=True)
            yield from (info for path, info in found.items() if path.startswith(f"{folder}/{start}"))
            return
        # s3fs itself lists all before it tells of any, and compares each folder with all others.
        bucket, prefix, _ = self.fs.split_path(f"{folder}/")
        asked: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{prefix}{start}"}
        while True:
            page = self.fs.call_s3("list_objects_v2", **asked)
            for file in page.get("Contents", []):
                if not file["Key"].endswith("/"):  # which some clients make for folders
                    name = f"{bucket}/{file['Key']}"
                    yield {**file, "name": name, "size": file["Size"], "type": "file"}
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def newest(self, folder: str, count: int) -> list[str]:
        """List the files that were last written into a folder, the last one first; one request lists it."""
        if not self.fs.isdir(top := f"{self.root}/{folder}"):
            return []
        files = [info for info in self.fs.ls(top, detail=True) if info["type"] == "file"]
        files.sort(key=lambda info: (self.written(info), info["name"]), reverse=True)
        return [str(info["name"]) for info in files[:count]]

    def written(self, info: dict[str, Any]) -> Any:
        """Return when a file was written, of which fsspec says this; comparable within one place."""
        for name in ("LastModified", "mtime", "created"):
            if info.get(name) is not None:
                return info[name]
        return self.fs.modified(info["name"])

    @property
    def _is_s3(self) -> bool:
        return self.uri.startswith(tuple(f"{scheme}://" for scheme in _S3))


def place_of(named: Named) -> Place:
    """Return the place that a path or a URI names.

    Raises ``ValueError``, or ``ImportError`` where a file system's package is not installed.
    """
    text = os.fspath(named)
    if not text:
        raise ValueError("nothing is named")
    uri = _URI.fullmatch(text)
    if uri is None:
        return _on_this_machine(_path_or_refused(text))
    scheme, rest, chained = uri[1].lower(), uri[2], "::" in text[: uri.start(1)]
    if scheme in ("file", "local") and not chained:
        return _on_this_machine(_path_of(scheme, rest))
    if scheme in _S3 and (not rest or rest.startswith("/")):
        raise ValueError("no bucket is named")
    text = f"{text[: uri.start(1)]}{scheme}://{rest.rstrip('/') if rest.strip('/') else rest}"
    try:
        return Place(text, *_elsewhere(text, scheme))
    except (ValueError, ImportError):
        raise
    except Exception as error:  # of a file system that needs more than its URI says, or asks a server
        raise ValueError(first_line(error)) from error


def local_path(named: Named) -> Path:
    """Return the path on this machine that is named; raises ``ValueError`` if that is elsewhere."""
    place = place_of(named)
    if not place.is_local:
        raise ValueError("does not lie on this machine")
    return Path(place.root)


def absolute_source(source: str) -> str:
    """Return ``KIND:PLACE`` with the place as it is named from any folder; a kind alone is returned as it is.

    Raises like ``place_of``.
    """
    kind, _, named = source.partition(":")
    return f"{kind}:{place_of(named).uri}" if named else source


def quoted_place(path: str) -> str:
    """Return where earlier versions wrote what was to lie at an absolute path: they quoted its name."""
    return quote(path)


def _path_or_refused(text: str) -> str:
    """Return a path, also of ``file:/PATH``; raises ``ValueError`` for a URI that lacks a slash."""
    lacking = _ONE_SLASH.fullmatch(text)
    if lacking is None or (scheme := lacking[1].lower()) not in fsspec.available_protocols():
        return text
    if scheme == "file":
        return _path_of(scheme, lacking[2])
    raise ValueError(f"one slash is missing: {scheme}:/{lacking[2]}; for a folder of that name, ./{text}")


def _path_of(scheme: str, rest: str) -> str:
    if scheme == "local":  # of fsspec alone, which quotes nothing
        return rest
    if (on_this_machine := _ON_THIS_MACHINE.fullmatch(rest)) is None:
        raise ValueError(f"{rest.partition('/')[0]!r} would be a host: write file:///PATH, or only the path")
    return os.fsdecode(unquote_to_bytes(os.fsencode(on_this_machine[1] or rest)))


def _on_this_machine(path: str) -> Place:
    if "\0" in path:
        raise ValueError("a path holds no null characters")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError("the name is not UTF-8 text") from None
    # Unlike Path's, it takes ~NAME of a user who is not there for a name, as a shell does.
    path = os.path.realpath(os.path.expanduser(path))  # noqa: PTH111
    return Place(path, fsspec.filesystem("file"), path)


def _elsewhere(uri: str, scheme: str) -> tuple[Any, str]:
    """Return the file system of a URI and how it names the place."""
    options = _OF_S3 if scheme in _S3 else {}
    kind = fsspec.get_filesystem_class(scheme)
    chained = (
        uri.partition("://")[0].lower() != scheme or _BELOW_ANOTHER in inspect.signature(kind).parameters
    )
    if chained:
        fs, root = fsspec.core.url_to_fs(uri, **options)
        return fs, str(root)
    # Two colons in a name are part of it, and not the start of another URI.
    root = str(kind._strip_protocol(uri))
    return fsspec.filesystem(scheme, **kind._get_kwargs_from_urls(uri), **options), root
