"""The README's commands, run as they are written but for the folders that they name."""

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import sea_jax

ROOT = Path(__file__).parent.parent


def commands(section: str) -> list[list[str]]:
    """The command lines of a section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    return [shlex.split(line) for line in re.findall(r"^    (python .*)$", text, re.MULTILINE)]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """runs/mine, FOLDER and baskets.csv of the README, for a small dataset."""
    root = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [30, 20], size=(200, 2)), axis=0)
    names = [(f"user {u}", f"item, {i}") for u, i in pairs]
    features = {"image": rng.normal(size=(20, 6)), "text": rng.normal(size=(20, 4))}
    items = [f"item, {i}" for i in range(20)]
    bundle = sea_jax.build("mine", train=names, features=features, item_ids=items)
    bundle.save(root / "data")
    config = sea_jax.Config(data_dir=str(root / "data"), epochs=1, club_steps=1, embedding_dim=8)
    sea_jax.fit(sea_jax.load(root / "data"), config, workdir=root / "run")
    new = root / "new"
    new.mkdir()
    (new / "items.txt").write_text("first\nsecond\n")
    for name, x in features.items():
        np.save(new / f"{name}_feat.npy", rng.normal(size=(2, x.shape[1])))
    (root / "baskets.csv").write_text('user,item,weight\nanna,"item, 3",\nanna,"item, 4",2\n')
    (root / "pictures").mkdir()
    return root


def test_new_items_and_new_users(places):
    stands_for = {
        "--workdir=runs/mine": f"--workdir={places / 'run'}",
        "--new_items=FOLDER": f"--new_items={places / 'new'}",
        "--baskets=baskets.csv": f"--baskets={places / 'baskets.csv'}",
    }
    found = commands("New items, new users")
    found = [command for command in found if "--new_items=arrivals.csv" not in command]  # tests/raw/test_new_items.py
    assert len(found) == 2
    for command in found:
        given = [stands_for.get(word, word) for word in command[1:]]
        given = [re.sub(r"^--output=", f"--output={places}/", word) for word in given]
        done = subprocess.run([sys.executable, *given], cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    lists = (places / "new.csv").read_text().splitlines()
    assert {line.split(",")[2] for line in lists[1:]} == {"first", "second"}
    strangers = (places / "strangers.jsonl").read_text().splitlines()
    assert len(strangers) == 18 and all('"user": "anna"' in line for line in strangers)
    assert not any('"item": "item, 3"' in line for line in strangers)


@pytest.mark.slow
def test_comparing_choosing_blending(demo, tmp_path):
    """Every command of the section, each on what those before it made; the search is short."""
    shorter = {"--epochs=50": "--epochs=2", "--trials=15": "--trials=2"}
    found = commands("Comparing, choosing, blending")
    assert [Path(command[1]).stem for command in found] == ["baselines", "search", "train", "blend", "compare"]
    said = []
    for command in found:
        given = [shorter.get(word, word).replace("data/mine", str(demo)) for word in command[1:]]
        given = [word.replace("runs/", f"{tmp_path}/runs/") for word in given]
        given += ["--batch_size=64", "--club_steps=2"] if "search" in command[1] else []
        done = subprocess.run([sys.executable, *given], cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "best of 2 trials" in said[1]
    assert "3 seeds (1, 2, 3)" in said[2]
    assert sorted(path.name for path in (tmp_path / "runs" / "best").iterdir()) == [
        "seed-1",
        "seed-2",
        "seed-3",
        "summary.json",
    ]
    assert said[4].count("by Holm") == 5  # of two settings by two metrics, and what it means


def test_serve_it(places):
    """As written, but on a free port."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    stands_for = {
        "--workdir=runs/mine": f"--workdir={places / 'run'}",
        "--image_root=FOLDER": f"--image_root={places / 'pictures'}",
        "--output=report": f"--output={places / 'report'}",
    }
    serve, report = ([stands_for.get(word, word) for word in command[1:]] for command in commands("Serve it"))
    with subprocess.Popen(
        [sys.executable, *serve, "--port=0"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            address = re.search(r"http://[^ ]+:\d+", line)
            assert address, line + process.stderr.read()
            pages = []
            for path in ("/", "/recommend?user=user%203&k=4"):
                with urllib.request.urlopen(f"{address[0]}{path}", timeout=60) as answer:
                    pages.append(answer.read().decode())
            assert "<html" in pages[0] and len(json.loads(pages[1])["items"]) == 4
        finally:
            process.kill()
    done = subprocess.run([sys.executable, *report], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (places / "report").iterdir()} >= {"report.html", "MODEL_CARD.md", "curves.png"}
