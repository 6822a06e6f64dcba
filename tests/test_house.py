"""Who may import whom: the list of rooms that the README prints is the house that the code is."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sea_jax

ROOT = Path(__file__).parent.parent
PROGRAMS = ("data_prep", "experiments", "benchmarks")
FRONT_DOOR = ("Bundle", "Config", "Recommender", "SeaError", "build", "fit", "load", "open_run")


def rooms() -> list[str]:
    """The rooms of sea_jax in the order of the README's list; a folder is one room."""
    block = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The house")[2]
    lines = re.findall(r"^    (?:sea_jax/|        )([\w.]+(?:/| [\w. ]*)?)  +\S", block, re.MULTILINE)
    found = []
    for line in lines:
        found += [name.removesuffix(".py").removesuffix("/") for name in line.split()]
    return [name for name in found if (ROOT / "sea_jax" / name).is_dir() or (ROOT / "sea_jax" / f"{name}.py").is_file()]


def imported(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it; names imported from a package count as its modules if they are."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if is_module(name)}
            names |= modules | ({node.module} if len(modules) < len(inner) else set())
    return names


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def library() -> dict[str, set[str]]:
    """By module of sea_jax, the modules of sea_jax that it imports."""
    files = sorted((ROOT / "sea_jax").rglob("*.py"))
    return {module_of(path): {n for n in imported(path) if n.startswith("sea_jax.")} for path in files}


def test_the_readme_names_every_room():
    present = {path.name.removesuffix(".py") for path in (ROOT / "sea_jax").iterdir() if not path.name.startswith("__")}
    assert set(rooms()) == present
    assert len(rooms()) == len(set(rooms()))


def test_a_room_imports_only_from_rooms_above():
    order = {name: number for number, name in enumerate(rooms())}
    for module, names in library().items():
        if module == "sea_jax":
            continue  # the front door is lazy: it imports nothing before it is asked
        for name in names:
            own, other = order[module.split(".")[1]], order[name.split(".")[1]]
            assert other <= own, f"{module} imports {name}, which stands below it"


def test_there_are_no_circles():
    edges = library()
    edges["sea_jax"] = set()
    done: set[str] = set()

    def walk(module, way):
        assert module not in way, " -> ".join([*way, module])
        if module in edges and module not in done:
            for name in edges[module]:
                walk(name, [*way, module])
            done.add(module)

    for module in edges:
        walk(module, [])


def test_only_the_command_line_knows_absl():
    for path in (ROOT / "sea_jax").rglob("*.py"):
        if any(name.split(".")[0] == "absl" for name in imported(path)):
            assert path.name == "cli.py"


@pytest.mark.parametrize("folder", PROGRAMS)
def test_a_program_imports_no_program(folder):
    for path in sorted((ROOT / folder).glob("*.py")):
        for name in imported(path):
            if name.split(".")[0] in PROGRAMS:
                assert folder == "benchmarks" and name.startswith("benchmarks"), f"{path} imports {name}"


def test_no_module_bears_the_name_of_a_front_door_function():
    for name in (*sea_jax.__all__, "__version__"):
        assert not is_module(f"sea_jax.{name}")
        assert getattr(sea_jax, name) is not None
    assert set(FRONT_DOOR) <= set(sea_jax.__all__)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_front_door_is_lazy():
    loaded = python("import sys, sea_jax; print(sorted({name.split('.')[0] for name in sys.modules}))")
    assert "'sea_jax'" in loaded
    for name in ("jax", "absl", "numpy", "flax"):
        assert f"'{name}'" not in loaded


def test_a_recommender_needs_no_jax(tmp_path):
    python(f"""
import sys, numpy as np
sys.modules["jax"] = sys.modules["flax"] = None  # an import of either raises
import sea_jax
made = sea_jax.Recommender.from_vectors(np.eye(3, 2), np.ones((4, 2)), np.array([[0, 0], [1, 1]]))
made.save(r"{tmp_path}/made.npz")
items, scores = sea_jax.Recommender.load(r"{tmp_path}/made.npz").recommend([0, 1], 2)
assert items.tolist() == [[1, 2], [0, 2]], items
""")
