import io

import pytest

from rayscan.console import progress
from rayscan.data import folders
from rayscan.errors import DataError
from rayscan.stages.index import listed


@pytest.mark.parametrize("kind", ["folder", "pattern"])
def test_files_found_so_far_are_shown(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(folders, "TOLD_EVERY", 3)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    for number in range(10):
        (tmp_path / f"{number % 4}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 4}" / f"{number}.jpg").touch()
    data = str(tmp_path) if kind == "folder" else f"{tmp_path}/*/*.jpg"
    stream = io.StringIO()
    listing = listed(data, progress.Progress(stream))
    assert len(listing.entries) == 10
    lines = stream.getvalue().splitlines()
    assert [line.partition(data)[2].split(" files")[0] for line in lines] == [": 3", ": 6", ": 9"]


def test_what_is_not_there_is_said_and_the_bar_is_gone(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with pytest.raises(DataError, match="nothing matches"):
        listed(str(tmp_path / "*.tar"), progress.Progress(stream))
    assert stream.getvalue().endswith("\r\x1b[K")
