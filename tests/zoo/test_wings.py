"""The zoo's imports point one way: no circle, no wing that uses a command."""

import ast
import pathlib
import subprocess
import sys

import zoo

ROOT = pathlib.Path(zoo.__file__).parent
WINGS = ("data", "training", "publishing", "studies")
#: What stands at the top and is no command.
SHARED = {"zoo", "zoo.recipe", "zoo.run"}


def imports():
    """Dict from a module to the modules of the zoo that it imports."""
    paths = {
        ".".join(("zoo", *path.relative_to(ROOT).with_suffix("").parts)): path
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py"
    }
    found = {}
    for module, path in paths.items():
        found[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found[module] |= {node.module, *names} & paths.keys()
    return found


def test_wings_use_no_commands():
    for module, used in imports().items():
        wing = module.split(".")[1]
        if wing not in WINGS:
            continue
        commands = {u for u in used if u.split(".")[1] not in WINGS} - SHARED
        assert not commands, f"{module} imports {commands}"
        if wing == "data":
            others = {u.split(".")[1] for u in used} & {*WINGS} - {"data"}
            assert not others, f"{module} imports {others}"


def test_no_circles():
    used = imports()
    while used:
        free = {module for module, others in used.items() if not others}
        assert free, f"These import each other: {used}"
        used = {m: o - free for m, o in used.items() if m not in free}


def test_pages_need_no_trainer():
    code = "import sys, zoo.pages; print(*sorted(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "zoo.publishing.table" in printed
    wings = {".".join(m.split(".")[:2]) for m in printed if m[:4] == "zoo."}
    assert not wings & {"zoo.training", "zoo.data"}
