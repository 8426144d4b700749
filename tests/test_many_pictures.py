"""Many pictures are decoded by several processes: to the same images, and with the same refusals."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advfeat.errors import InputError
from advfeat.pictures import many
from advfeat.pictures.form import Form, PictureFile
from advfeat.pictures.many import many_decoded

FORM = Form((3, 6, 8), None)


def encoded(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


FILES: list[PictureFile] = [(f"pictures/{number}\udcff.jpg", encoded(number)) for number in range(60)]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list["subprocess.Popen[bytes]"]:
    """Decode by two processes, which are listed, after the first five pictures."""
    processes: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *given: object, **named: object) -> None:
            super().__init__(*given, **named)  # type: ignore[call-overload]
            processes.append(self)

    monkeypatch.setattr(many, "_TRIED", 5)
    monkeypatch.setattr(many, "_SECONDS_EACH", 1e-9)
    monkeypatch.setattr(many, "_MOST_AT_ONCE", 4)
    monkeypatch.setattr(many, "usable_cores", lambda: 2)
    monkeypatch.setattr(subprocess, "Popen", Watched)
    return processes


def refusal(files: Iterator[PictureFile], form: Form = FORM) -> tuple[int, str]:
    """Return how many pictures were decoded before one was refused, and what was said."""
    done = 0
    try:
        for _ in many_decoded(files, len(FILES), form):
            done += 1
    except InputError as error:
        return done, str(error)
    pytest.fail("nothing was refused")


def test_they_are_what_one_process_decodes(started: list["subprocess.Popen[bytes]"]) -> None:
    for form in (FORM, Form((1, 5, 5), 5)):
        found = list(many_decoded(iter(FILES), len(FILES), form))
        assert np.array_equal(found, [form.image(file) for file in FILES])
    assert len(started) == 4
    assert all(process.returncode == 0 for process in started)


def test_large_files_are_given_a_few_at_a_time(
    started: list["subprocess.Popen[bytes]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand photographs on their way to processes would fill the memory."""
    given: list[int] = []
    images = many._Process.images

    def counted(process: many._Process, files: list[PictureFile]) -> np.ndarray:
        given.append(len(files))
        return images(process, files)

    monkeypatch.setattr(many._Process, "images", counted)
    monkeypatch.setattr(many, "_FILE_BYTES_AT_ONCE", len(FILES[5][1]) + 1)
    found = list(many_decoded(iter(FILES), 60, FORM))
    assert np.array_equal(found, [FORM.image(file) for file in FILES])
    assert started
    assert max(given) == 2, "with the second there is no more room"


@pytest.mark.parametrize("place", [2, 30, 59])
def test_the_first_picture_that_cannot_be_used_is_named(
    started: list["subprocess.Popen[bytes]"], place: int
) -> None:
    files = [*FILES]
    files[place] = "broken.jpg", b"no picture"
    files[58:58] = [("also broken.jpg", b"")] if place < 58 else []
    done, told = refusal(iter(files))
    assert "'broken.jpg' is not a readable picture" in told
    assert done <= place
    done, told = refusal(iter(FILES), Form((3, 7, 8), None))
    assert (done, "has size (6, 8), the first one (7, 8)" in told) == (0, True)
    assert all(process.returncode == 0 for process in started)


def test_what_reading_raises_comes_behind_the_pictures_before_it(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    def read(files: list[PictureFile]) -> Iterator[PictureFile]:
        yield from files
        raise InputError("data.source", "here", "has no picture bytes in row 40", "give them")

    assert refusal(read(FILES[:40])) == (40, "data.source: 'here' has no picture bytes in row 40; give them")
    broken = [*FILES[:38], ("broken.jpg", b"")]
    assert "broken.jpg" in refusal(read(broken))[1]
    assert len(started) == 4


def test_a_lost_process_is_done_without(started: list["subprocess.Popen[bytes]"]) -> None:
    found = []
    for image in many_decoded(iter(FILES), len(FILES), FORM):
        found.append(image)
        if len(found) == 10:
            for process in started:
                os.kill(process.pid, signal.SIGKILL)
    assert np.array_equal(found, [FORM.image(file) for file in FILES])
    assert len(started) == 2


def test_who_stops_listening_leaves_no_process(started: list["subprocess.Popen[bytes]"]) -> None:
    images = many_decoded(iter(FILES), len(FILES), FORM)
    for _ in range(20):
        next(images)
    images.close()  # type: ignore[attr-defined]
    assert [process.returncode for process in started] == [0, 0]


def test_few_pictures_start_none(
    started: list["subprocess.Popen[bytes]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "_SECONDS_EACH", 60)
    assert len(list(many_decoded(iter(FILES), len(FILES), FORM))) == len(FILES)
    assert started == []


def test_a_process_needs_little(tmp_path: Path) -> None:
    """As many start as there are cores: with neither torch nor pydantic, nor what lies in their folder."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('a file of the user')")
    heavy = "{'torch', 'pydantic', 'pyarrow'}"
    command = f"import sys, advfeat.pictures.process; print({heavy} & set(sys.modules))"
    asked = [sys.executable, "-P", "-c", command]
    told = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
