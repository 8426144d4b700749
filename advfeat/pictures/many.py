"""Many pictures, decoded in order: by several processes where that pays.

Of a small picture most of the time is Python's, of which a process has one thread at a time. What is
decoded does not depend on how many processes there are, nor does which picture is refused.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from math import prod
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from advfeat.ahead import computed_ahead
from advfeat.cluster.cores import usable_cores
from advfeat.pictures.form import Form, PictureFile
from advfeat.pictures.process import DECODED

_TRIED = 256
"""Pictures that are decoded here first, to know how long all will take."""

_SECONDS_EACH = 0.75
"""That a process must have to do: to start it takes about a third of that."""

_MOST_AT_ONCE, _MOST_BYTES_AT_ONCE = 256, 4 << 20
"""Pictures that a process is given, and bytes of their pixels."""

_FILE_BYTES_AT_ONCE = 16 << 20
"""Of files, with which no more are given: photographs are large, however small they are to become."""


def many_decoded(files: Iterator[PictureFile], count: int, form: Form) -> Iterator[NDArray[np.uint8]]:
    """Yield the image (C, H, W) of each of ``count`` pictures.

    Raises ``InputError`` for the first that cannot be used, and what reading the files raises.
    """
    seconds = 0.0
    for file in islice(files, _TRIED):
        begun = time.thread_time()
        image = form.image(file)
        seconds += time.thread_time() - begun
        yield image
    # A stage of images asks the cluster for one core: at the start of a run there is nothing else to do.
    processes = min(usable_cores(), int(seconds / _TRIED * (count - _TRIED) / _SECONDS_EACH))
    if processes < 2:
        yield from map(form.image, files)
        return
    with ExitStack() as stack:
        idle: SimpleQueue[_Process] = SimpleQueue()
        for _ in range(processes):
            idle.put(stack.enter_context(_Process(form)))

        def decoded(some: "list[PictureFile] | Exception") -> NDArray[np.uint8]:
            if isinstance(some, Exception):
                raise some
            process = idle.get()
            try:
                return process.images(some)
            finally:
                idle.put(process)

        at_once = max(1, min(_MOST_AT_ONCE, _MOST_BYTES_AT_ONCE // prod(form.shape)))
        for images in computed_ahead(decoded, _cut(files, at_once), processes):
            yield from images


def _cut(files: Iterator[PictureFile], size: int) -> Iterator[list[PictureFile] | Exception]:
    """Cut files into lists; what reading raises comes behind those before it, which are told first."""
    while True:
        some: list[PictureFile] = []
        room = _FILE_BYTES_AT_ONCE
        try:
            while room > 0 and len(some) < size and (file := next(files, None)) is not None:
                some.append(file)
                room -= len(file[1])
        except Exception as error:
            yield from (some, error)
            return
        if not some:
            return
        yield some


class _Process:
    """A process that decodes; what it cannot is decoded in this one."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Process":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "advfeat.pictures.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            self._send(json.dumps([self._form.shape, self._form.image_size]).encode() + b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with suppress(OSError):
                self._process.communicate()

    def images(self, files: list[PictureFile]) -> NDArray[np.uint8]:
        """Return the images (n, C, H, W) of some pictures; raises ``InputError``."""
        if self._process is not None and self._process.stdout is not None:
            names, contents = zip(*files, strict=True)
            with suppress(OSError):
                self._send(json.dumps([names, [len(content) for content in contents]]).encode() + b"\n")
                self._send(*contents)
                if self._process.stdout.read(1) == DECODED:
                    shape = len(files), *self._form.shape
                    pixels = self._process.stdout.read(prod(shape))
                    if len(pixels) == prod(shape):
                        return np.frombuffer(pixels, np.uint8).reshape(shape)
        return np.stack([self._form.image(file) for file in files])

    def _send(self, *contents: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.writelines(contents)
        self._process.stdin.flush()
