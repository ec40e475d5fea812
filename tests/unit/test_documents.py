"""What stands beside the code: the lock, the uploads of a job, versions, and documents that must not lie."""

from __future__ import annotations

import re
import tomllib
import warnings
from pathlib import Path

import pytest

import rayscan
from rayscan.errors import ArtifactError

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="ascii"))["project"]


def test_every_locked_package_has_an_exact_version_and_hashes() -> None:
    """`pip install --require-hashes` takes nothing else; no address and no path stands in the lock."""
    text = (ROOT / "requirements.lock").read_text(encoding="ascii")
    packages = re.split(r"\n(?=\S)", text.strip())
    assert len(packages) > 50
    for package in packages:
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z,-]+\])?==\S+( ; [^\\]+)? \\\n", package), package[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", package), package[:80]
    assert "://" not in text
    assert not re.search(r"(^|\s)(/|--(extra-)?index-url|--find-links)", text)


def test_lock_covers_the_dependencies() -> None:
    """A dependency added to pyproject.toml is in the lock too (`make lock`)."""

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    names = {normal(re.split(r"[\s\[<>=;!~]", line, maxsplit=1)[0]) for line in asked}
    lock = (ROOT / "requirements.lock").read_text(encoding="ascii")
    locked = {normal(name) for name in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==", lock, flags=re.MULTILINE)}
    assert names - locked == set()


def test_version_is_the_same_everywhere() -> None:
    """pyproject.toml, the package and the changelog name one version."""
    assert PROJECT["version"] == rayscan.__version__
    assert f"## [{rayscan.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="ascii")


def test_open_reads_a_run(tmp_path: Path) -> None:
    """`rayscan.open` is the run's own reader, with its error."""
    with pytest.raises(ArtifactError, match="no run here"):
        rayscan.open(str(tmp_path))


def ray_leaves_out(relative: str) -> bool:
    """Whether .gitignore or .rayignore keep a path out of an upload, by the matcher Ray uses."""
    from pathspec import PathSpec

    lines = [line for name in (".gitignore", ".rayignore") for line in (ROOT / name).read_text().splitlines()]
    with warnings.catch_warnings():  # the name is deprecated, yet it is the one Ray passes
        warnings.simplefilter("ignore", DeprecationWarning)
        return bool(PathSpec.from_lines("gitwildmatch", lines).match_file(relative))


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD",
        ".venv/bin/python",
        "runs/demo/report/index.html",
        "shared/data/classes.txt",
        "photos/train-0.tar",
    ],
)
def test_uploads_leave_out(path: str) -> None:
    """A job's upload is code alone: no history, no environment, no results, no data."""
    assert ray_leaves_out(path)


@pytest.mark.parametrize(
    "path", ["rayscan/cli/__init__.py", "rayscan/report/template.html", "pyproject.toml", "rayscan/py.typed"]
)
def test_uploads_carry(path: str) -> None:
    """And all of the code."""
    assert not ray_leaves_out(path)


def commands_in(text: str) -> set[str]:
    """Sub-commands of `rayscan` named in a document's code."""
    code = re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL)
    return {name for part in code for name in re.findall(r"(?<![\w./-])rayscan ([a-z]+)\b", part)}


def test_documents_name_only_commands_that_exist() -> None:
    """No command is promised before it works."""
    from rayscan.cli import COMMANDS

    assert ROOT / "README.md" in DOCUMENTS
    for path in DOCUMENTS:
        named = commands_in(path.read_text(encoding="ascii"))
        assert named <= set(COMMANDS), f"{path.relative_to(ROOT)}: {named - set(COMMANDS)}"


def test_links_between_documents_lead_somewhere() -> None:
    """Relative links in Markdown name files that are there."""
    broken = [
        f"{path.relative_to(ROOT)} -> {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", path.read_text(encoding="ascii"))
        if not (path.parent / target).exists()
    ]
    assert broken == []
