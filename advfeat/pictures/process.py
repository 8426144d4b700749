"""One of the processes that decode pictures: ``python -m advfeat.pictures.process``.

It reads from its standard input a line with a form, then again and again a line with names and sizes and
the contents behind each other. It answers each with a byte: 1, and the pixels of all pictures, or 0. It ends
when there is nothing more to read, and so with whoever started it.
"""

import json
import signal
import sys
from typing import BinaryIO

import numpy as np

from advfeat.errors import InputError
from advfeat.pictures.form import Form

REFUSED, DECODED = b"\0", b"\1"


def serve(asked: BinaryIO, answers: BinaryIO) -> None:
    """Decode what is asked for until that ends."""
    shape, image_size = json.loads(asked.readline())
    form = Form(tuple(shape), image_size)
    for line in asked:
        names, sizes = json.loads(line)
        files = [(name, asked.read(size)) for name, size in zip(names, sizes, strict=True)]
        try:
            images = np.stack([form.image(file) for file in files])
        except InputError:  # who asked decodes them too, and tells which one it is
            answers.write(REFUSED)
        else:
            answers.write(DECODED)
            answers.write(images.tobytes())
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all of a run
    serve(sys.stdin.buffer, sys.stdout.buffer)
