"""The rules of the house that no linter knows (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
TEXT_SUFFIXES = {
    ".py",
    ".toml",
    ".md",
    ".yaml",
    ".yml",
    ".html",
    ".css",
    ".js",
    ".sh",
    ".lock",
    ".json",
    ".cfg",
}
TEXT_NAMES = {"Makefile", "run", ".gitignore", ".rayignore"}

MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|X{3}|NotImplemented" r"Error)\b")
REGISTRY_HOSTS = re.compile(
    r"\b(py"
    r"pi\.org|python"
    r"hosted\.org|download\.py"
    r"torch\.org|registry\.npm"
    r"js\.org|conda\.ana"
    r"conda\.org)"
)
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "joblib.load",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "faiss.read_index",
    "eval",
    "exec",
}
TORCH_READER = "rayscan/nets/checkpoint_file.py"
"""The one place that reads what torch wrote; with weights_only, as a test below checks."""
FORBIDDEN_METHODS = {
    "extractall",
    "broadcast_object_list",  # torch sends objects as pickles
    "all_gather_object",
    "gather_object",
    "scatter_object_list",
    "send_object_list",
    "recv_object_list",
}
FORBIDDEN_TEXTS = {"0.0.0.0", "::"}
"""Addresses of every interface: what listens there is open to the network."""
FORBIDDEN_FLAGS = {
    ("shell", True),
    ("allow_pickle", True),
    ("weights_only", False),
    ("trust_remote_code", True),
    ("autoescape", False),
}
VAGUE_NAMES = {"look"}
"""Functions are called by what they do: measure, judge, read."""
VAGUE_BEGINNINGS = ("Of ", "The same")
"""A docstring's first words name what is meant; who reads it has not read the line above."""
TESTS_OF_BENCHMARKS = {
    "tests/ray/test_good_features.py",
    "tests/ray/test_search_files.py",
    "tests/fleet/test_trained_heads.py",
    "tests/unit/test_benchmark_harness.py",
    "tests/unit/test_clustering_benchmark.py",
    "tests/unit/test_gpu_half_benchmark.py",
    "tests/unit/data/test_corruption_benchmark.py",
    "tests/ray/test_campaign.py",
    "tests/ray/test_fault_campaign.py",
}
"""Tests whose subject is a benchmark: the only ones that import it. What both share lies in testing/."""
CROSSING = {"tests": ("benchmarks",), "benchmarks": ("tests",), "testing": ("tests", "benchmarks")}
"""Folder -> folders that it does not import."""


@cache
def project_files() -> tuple[Path, ...]:
    """Files that are or will be tracked; without git, whatever is there."""
    asked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode == 0 and asked.stdout:
        names = asked.stdout.splitlines()
    else:
        names = [
            str(p.relative_to(ROOT))
            for p in ROOT.rglob("*")
            if not p.relative_to(ROOT).parts[0].startswith(".venv")
        ]
    paths = [ROOT / name for name in sorted(set(names))]
    return tuple(p for p in paths if p.is_file() and (p.suffix in TEXT_SUFFIXES or p.name in TEXT_NAMES))


def python_files(*folders: str) -> list[Path]:
    """Python files of the project below some folders."""
    return [
        p
        for p in project_files()
        if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in (folders or (p.parts[-1],))
    ]


@cache
def tree_of(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted module of every import in a file, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def is_below(module: str, *parents: str) -> bool:
    """Whether a dotted module is one of some packages or inside one."""
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def violations(source: str) -> list[str]:
    """What a Python text does that the house forbids in library code."""
    tree = ast.parse(source)
    found = [f"{line}: imports {name}" for line, name in imported(tree) if is_below(name, *FORBIDDEN_MODULES)]
    found += [f"{line}: imports {name}" for line, name in imported(tree) if name in FORBIDDEN_CALLS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_open = node.value in FORBIDDEN_TEXTS or node.value.startswith("pipe:")
            found += [f"{node.lineno}: says {node.value!r}"] if is_open else []
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("Image.open", "PIL.Image.open") and not any(k.arg == "formats" for k in node.keywords):
            found.append(f"{node.lineno}: {name} without formats=")
        if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in FORBIDDEN_METHODS:
            found.append(f"{node.lineno}: calls {name}")
        if re.search(r"\btar\w*\.extract$", name):
            found.append(f"{node.lineno}: calls {name}")
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if (keyword.arg, value) in FORBIDDEN_FLAGS:
                found.append(f"{node.lineno}: {name}({keyword.arg}={value})")
        is_numpy_load = name in ("np.load", "numpy.load")
        if is_numpy_load and not any(k.arg == "allow_pickle" for k in node.keywords):
            found.append(f"{node.lineno}: {name} without allow_pickle=False")
    return found


LIBRARY = python_files("rayscan", "jobs")


def test_library_was_found() -> None:
    """Guards all tests below against looking at nothing."""
    assert ROOT / "rayscan" / "artifacts.py" in LIBRARY
    assert ROOT / "pyproject.toml" in project_files()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "def f():\n    import dill.source",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "import yaml\nyaml.load(s)",
        "t.extractall()",
        "tar.extract(m)",
        "subprocess.run('ls', shell=True)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "eval('1')",
        "Image.open(f)",
        "dist.broadcast_object_list(box)",
        "server.bind(('0.0.0.0', 80))",
        "urls = 'pipe:curl x'",
        "jinja2.Environment(autoescape=False)",
    ],
)
def test_the_guard_itself_sees(source: str) -> None:
    """The scan below is not blind."""
    assert violations(source)


def test_the_guard_lets_good_code_pass() -> None:
    """Nor does it cry at everything."""
    good = (
        "import yaml\nyaml.safe_load(s)\nnp.load(f, allow_pickle=False)\nmodel.eval()\nsubprocess.run(['ls'])"
    )
    assert not violations(good)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_code_from_data(path: Path) -> None:
    """DESIGN section 10: no pickle, no torch.load, no tar extraction, no shell, safe YAML."""
    found = violations(path.read_text(encoding="utf-8"))
    if path == ROOT / TORCH_READER:
        assert [v.partition(": ")[2] for v in found] == ["calls torch.load"]
        return
    assert found == []


def test_torch_files_are_read_with_weights_only() -> None:
    """Its one torch.load runs no code from the file."""
    calls = [n for n in ast.walk(tree_of(ROOT / TORCH_READER)) if isinstance(n, ast.Call)]
    (call,) = [n for n in calls if ast.unparse(n.func) == "torch.load"]
    assert [k.value.value for k in call.keywords if k.arg == "weights_only"] == [True]


def threaded_reads(source: str) -> list[str]:
    """Reads of a table by Arrow's own threads in a Python text.

    Such a thread may let go of the last reference to bytes that Python owns while the interpreter ends; it
    then asks for the GIL, is ended by Python inside a C++ destructor, and the process aborts. `pq.read_table`
    reads ahead in threads whatever its `use_threads` says.
    """
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        name = ast.unparse(call.func)
        is_ahead = re.search(r"\bpq\.(read_table|ParquetDataset)$", name)
        is_read = re.search(r"\.(read_row_groups?|iter_batches)$|ParquetFile\(.*\)\.read$", name)
        is_options = name.endswith("ReadOptions")
        is_csv = re.search(r"csv\.(read_csv|open_csv)$", name)
        flags = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
        if is_ahead or flags.get("pre_buffer") is True:
            found.append(f"{call.lineno}: {name} reads ahead")
        if (is_read or is_options) and flags.get("use_threads") is not False:
            found.append(f"{call.lineno}: {name} without use_threads=False")
        if is_csv and not ast.unparse(call.args[0]).endswith("getvalue())"):
            found.append(f"{call.lineno}: {name} from memory that Arrow does not own")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "pq.read_table(pa.BufferReader(data))",
        "pq.read_table(path, columns=names, use_threads=False)",
        "pq.ParquetFile(source, pre_buffer=True)",
        "file.read_row_group(0)",
        "pq.ParquetFile(source).iter_batches(100)",
        "pq.ParquetFile(source).read(columns=names)",
        "pa_csv.read_csv(pa.BufferReader(data))",
        "options.ReadOptions()",
    ],
)
def test_the_guard_of_threads_sees(source: str) -> None:
    """Parquet whole, by row groups and in batches; CSV."""
    assert len(threaded_reads(source)) == 1


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_tables_are_read_without_threads(path: Path) -> None:
    """So that the exit status tells the truth."""
    assert threaded_reads(path.read_text(encoding="utf-8")) == []


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method."""
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    """At most 300 lines a file, 50 a function; a job at most 20."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    limit = 20 if path.relative_to(ROOT).parts[0] == "jobs" else MAX_FILE_LINES
    assert lines <= limit, f"{lines} lines"
    for function in functions_of(tree_of(path)):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{function.name}: {length} lines"


def vaguely_named(source: str) -> list[str]:
    """Functions and methods of a Python text whose name says nothing."""
    return [f"{f.lineno}: {f.name}" for f in functions_of(ast.parse(source)) if f.name in VAGUE_NAMES]


def vaguely_begun(source: str) -> list[str]:
    """Docstrings of modules, classes and functions that begin with words for something said elsewhere."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    said = (ast.get_docstring(n) or "" for n in ast.walk(ast.parse(source)) if isinstance(n, kinds))
    return [text.splitlines()[0] for text in said if text.startswith(VAGUE_BEGINNINGS)]


def crossed(source: str, *folders: str) -> list[str]:
    """Lines that import from some folders; also in programs that a test or benchmark starts as a text."""
    pattern = re.compile(rf"(?:\bfrom|\bimport|-m[\"', ]+)\s*(?:{'|'.join(folders)})\b")
    return [line.strip() for line in source.splitlines() if pattern.search(line)]


@pytest.mark.parametrize(
    "source",
    [
        "def look():\n    pass",
        "async def look():\n    pass",
        "class Monitor:\n    def look(self):\n        pass",
        "def visit():\n    def look():\n        pass",
    ],
)
def test_the_guard_of_names_sees(source: str) -> None:
    """Functions, methods, coroutines and functions in functions."""
    assert len(vaguely_named(source)) == 1
    assert not vaguely_named(source.replace("look", "look_up"))


@pytest.mark.parametrize("text", ["Of the last epoch.", "The same for rows.", "\n    The same, sorted.\n"])
@pytest.mark.parametrize("place", ["{!r}", "class A:\n    {!r}", "def f():\n    {!r}"])
def test_the_guard_of_docstrings_sees(place: str, text: str) -> None:
    """Modules, classes and functions; attributes are not docstrings, and words may begin with Of."""
    assert len(vaguely_begun(place.format(text))) == 1
    assert not vaguely_begun(place.format("Offsets of the same rows."))
    assert not vaguely_begun(f"x = 1\n{text!r}")


@pytest.mark.parametrize(
    "source",
    [
        "from benchmarks import faults",
        "import benchmarks.harness",
        "def f():\n    from benchmarks.harness import Report",
        "CODE = 'from benchmarks.harness import Report'",
        "run([sys.executable, '-m', 'benchmarks.faults'])".replace("'", '"'),
    ],
)
def test_the_guard_of_folders_sees(source: str) -> None:
    """Imports anywhere in a file, and in what it starts."""
    assert len(crossed(source, "benchmarks")) == 1
    assert not crossed(source, "tests")
    assert not crossed(source.replace("benchmarks", "testing"), "tests", "benchmarks")


def test_functions_are_called_by_what_they_do() -> None:
    """In the library, its tests and benchmarks."""
    wrong = [
        f"{path.relative_to(ROOT)}:{found}"
        for path in python_files("rayscan", "jobs", "tests", "testing", "benchmarks")
        for found in vaguely_named(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_docstrings_name_their_object() -> None:
    """In the library."""
    wrong = [
        f"{path.relative_to(ROOT)}: {found}"
        for path in LIBRARY
        for found in vaguely_begun(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", CROSSING)
def test_tests_and_benchmarks_do_not_import_each_other(folder: str) -> None:
    """Save for the tests of benchmarks, each of which is there and has a benchmark as its subject."""
    paths = {str(path.relative_to(ROOT)): path for path in python_files(folder)}
    assert paths
    found = {
        name: lines
        for name, path in paths.items()
        if path != Path(__file__)
        if (lines := crossed(path.read_text(encoding="utf-8"), *CROSSING[folder]))
    }
    allowed = TESTS_OF_BENCHMARKS if folder == "tests" else set()
    assert found.keys() == allowed, found


def test_ray_is_imported_in_fleet_only() -> None:
    """One room knows Ray; lazy imports count."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in python_files("rayscan", "jobs")
        if path.relative_to(ROOT).parts[:2] != ("rayscan", "fleet")
        for line, name in imported(tree_of(path))
        if is_below(name, "ray")
    ]
    assert wrong == []


def test_unit_tests_do_not_import_ray() -> None:
    """Unit tests need no fleet; conftest.py also watches what they import indirectly."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in python_files("tests")
        if path.relative_to(ROOT).parts[1] == "unit"
        for line, name in imported(tree_of(path))
        if is_below(name, "ray")
    ]
    assert wrong == []


def module_of(path: Path) -> str:
    """Dotted name of a file of the library."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_cycles(files: dict[str, ast.Module]) -> list[list[str]]:
    """Modules that import each other, directly or by others, also inside functions.

    Args:
        files: Dotted name -> text.
    """
    direct: dict[str, set[str]] = {}
    for module, tree in files.items():
        names = {name for _, name in imported(tree)}
        parents = {name.rpartition(".")[0] for name in names if name not in files}
        packages = {name.rpartition(".")[0] for name in names if name in files}
        direct[module] = ((names | parents) & files.keys()) - {module} - (packages - parents)
    reached = {module: set(targets) for module, targets in direct.items()}
    for via in files:
        for module in files:
            if via in reached[module]:
                reached[module] |= reached[via]
    looped = [module for module in files if module in reached[module]]
    groups = {tuple(sorted(m for m in looped if m in reached[one] and one in reached[m])) for one in looped}
    return sorted(map(list, groups))


def test_cycles_are_found() -> None:
    """The search below is not blind."""
    texts = {
        "a.x": "from a.y import f",
        "a.y": "def f():\n    from a import z",
        "a.z": "import a.x",
        "a": "from a.free import f",
        "a.free": "import json\nfrom a.x import g",
    }
    assert import_cycles({name: ast.parse(text) for name, text in texts.items()}) == [["a.x", "a.y", "a.z"]]


def test_no_import_circles() -> None:
    """No module imports itself by way of others; neither lazy imports nor those for types are spared."""
    assert import_cycles({module_of(p): tree_of(p) for p in python_files("rayscan")}) == []


def test_torch_distributed_is_imported_in_comms_only() -> None:
    """Communication has one door, which is the identity on one worker."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in LIBRARY
        if path != ROOT / "rayscan" / "comms.py"
        for line, name in imported(tree_of(path))
        if is_below(name, "torch.distributed")
    ]
    assert wrong == []


def test_no_marks_of_unfinished_work() -> None:
    """What is not done is an issue, not a comment."""
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in project_files()
        if path.suffix != ".lock"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MARKS.search(line)
    ]
    assert wrong == []


def test_ascii_only() -> None:
    """Readable everywhere, and no look-alike letters."""
    wrong = [str(path.relative_to(ROOT)) for path in project_files() if not path.read_bytes().isascii()]
    assert wrong == []


def test_no_names_of_registries() -> None:
    """The lock and the documents work with any package index."""
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in project_files()
        if (found := REGISTRY_HOSTS.search(path.read_text(encoding="utf-8")))
    ]
    assert wrong == []


HEAVY = {"torch", "ray", "faiss", "pyarrow"}


@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        ("rayscan", HEAVY),
        ("rayscan.config", HEAVY),
        ("rayscan.recipes", HEAVY),
        ("rayscan.cli", HEAVY),
        ("rayscan.fleet.shards", {"torch"}),
        ("rayscan.fleet.kmeans", {"torch"}),
    ],
)
def test_import_is_light(module: str, left_out: set[str]) -> None:
    """Mistakes are refused at once, and actors of a small search start a second sooner."""
    code = (
        f"import sys, {module}; heavy = {left_out!r} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
