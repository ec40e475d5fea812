"""Labels cannot be read before evaluate: one module opens them, and what may ask it is listed here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rayscan.methods import METHODS, Method

ROOT = Path(__file__).parents[2] / "rayscan"
READER = "rayscan.data.labels"
MAY_READ = {"stages/labels.py"}
"""The one stage that turns a labels file or labels inside shards into an artifact."""
MAY_USE = MAY_READ | {
    "stages/baseline.py",
    "stages/evaluate.py",
    "stages/report.py",
    "experiments/running.py",
    "transfer.py",
}
"""Stages that may open that artifact; they come last. An experiment that trains on labels says so."""
MAY_NAME = MAY_USE | {"stages/context.py", "data/labels.py", "pipeline.py", "cli/commands.py", "predict.py"}
"""Modules that may handle the path a user gave, without opening it."""

MODULES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py"))


def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))))


def imports(module: str) -> set[str]:
    found = {a.name for n in nodes(module) if isinstance(n, ast.Import) for a in n.names}
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("module", sorted(set(MODULES) - MAY_READ))
def test_only_the_labels_stage_imports_the_reader_of_labels(module: str) -> None:
    assert READER not in imports(module)


@pytest.mark.parametrize("module", sorted(set(MODULES) - MAY_NAME))
def test_no_earlier_module_sees_the_path_or_the_artifact(module: str) -> None:
    """No `sources.labels`, no `done["labels"]`, no file name of the artifact."""
    for node in nodes(module):
        if isinstance(node, ast.Attribute) and node.attr == "labels" and isinstance(node.value, ast.Name):
            assert node.value.id not in ("sources", "context"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            assert (node.value.attr, node.attr) != ("sources", "labels"), f"line {node.lineno}"
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            assert node.slice.value != "labels", f"line {node.lineno}"


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_labels_are_opened_after_everything_was_assigned(method: Method) -> None:
    """A stage is handed the results before it, so none before the labels stage can be given labels."""
    assert method.stages[method.stages.index("assign") :] == (
        "assign",
        "names",
        "labels",
        "baseline",
        "evaluate",
        "report",
    )
    assert method.stages.count("labels") == 1


def test_no_part_of_a_search_knows_a_stage_that_opens_labels() -> None:
    """Its trials are judged without them: neither the stages nor their artifact nor an option for a file."""
    searching = [m for m in MODULES if m.startswith("search/")]
    assert "search/driver.py" in searching
    for module in [*searching, "consensus/probe.py", "fleet/tune.py"]:
        known = {f"rayscan.stages.{stage}" for stage in ("labels", "baseline", "evaluate", "report")}
        assert not imports(module) & known, module
        words = {n.attr for n in nodes(module) if isinstance(n, ast.Attribute)}
        words |= {n.value for n in nodes(module) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        assert "labels" not in words, module
    command = next(
        n for n in nodes("cli/commands.py") if isinstance(n, ast.FunctionDef) and n.name == "search"
    )
    options = {argument.arg for argument in [*command.args.args, *command.args.kwonlyargs]}
    assert "data" in options
    assert "labels" not in options
