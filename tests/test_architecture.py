"""Imports run downwards: each room knows those below it alone, and no module imports itself by a circle."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# From the top down. What stands on one line may not import each other.
ORDER = [
    {'experiments', 'benchmarks'},
    {'data_prep'},
    {'vidcls.report', 'vidcls.explain', 'vidcls.export'},
    {'vidcls.fused'},
    {'vidcls.train', 'vidcls.stream'},
    {'vidcls.evaluate', 'vidcls.predict', 'vidcls.fuse'},
    {'vidcls.exported'},
    {'vidcls.ranking'},
    {'vidcls.viewing'},
    {'vidcls.training'},
    {'vidcls.pretrained'},
    {'vidcls.run'},
    {'vidcls.runtimes'},
    {'vidcls.models'},
    {'vidcls.data'},
    {'vidcls.distributed'},
    {'vidcls.metrics'},
    {'vidcls.config'},
    {'vidcls.settings'},
    {'vidcls.text'},
    {'vidcls.errors'},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def room(module: str) -> str | None:
    return next((name for name in LEVEL if module == name or module.startswith(f'{name}.')), None)


def imports(path: Path, known: set[str]) -> set[str]:
    """The modules, of those known, that a file imports anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:  # a module of the package, or what the package itself defines
                inner = f'{node.module}.{name.name}'
                found.add(inner if inner in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & known


def modules() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    paths = {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
        for top in ('vidcls', 'data_prep', 'experiments', 'benchmarks')
        for path in (ROOT / top).rglob('*.py')
    }
    return {name: imports(path, set(paths)) - {name} for name, path in paths.items()}


def test_every_module_has_a_room():
    assert {name for name in modules() if name != 'vidcls' and room(name) is None} == set()


def test_imports_run_downwards():
    wrong = [
        f'{name} imports {other}'
        for name, others in modules().items()
        for other in others
        if name != 'vidcls'
        and other != 'vidcls'
        and room(name) != room(other)
        and LEVEL[room(name)] >= LEVEL[room(other)]
    ]
    assert wrong == []


def test_no_module_is_imported_in_a_circle():
    graph = modules()
    graph.pop('vidcls', None)  # it hands on what is below, when it is asked for

    def reach(name: str, seen: tuple[str, ...]) -> None:
        assert name not in seen, ' -> '.join((*seen[seen.index(name) :], name))
        for other in sorted(graph[name] - {'vidcls'} - done):
            # A package's own __init__ is what its modules' users import, and is imported by none of these.
            reach(other, (*seen, name))
        done.add(name)

    done: set[str] = set()
    for name in sorted(graph):
        if name not in done:
            reach(name, ())
