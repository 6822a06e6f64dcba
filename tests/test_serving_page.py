"""From raw tables to a page in a browser, by the commands of docs/serving.md as they are written there."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
SMALLER = {
    "make_demo.py": ["--num_users=60", "--num_items=50", "--mean_interactions=7", "--factors=2"],
    "train.py": ["--epochs=2"],
    "serve.py": ["--port=0"],
}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The address of the service that the commands end with."""
    folder = tmp_path_factory.mktemp("shop")
    lines = re.findall(r"^    python (.*)$", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8"), re.MULTILINE)
    commands = [shlex.split(line) for line in lines]
    assert [Path(command[0]).name for command in commands] == ["make_demo.py", "from_tables.py", "train.py", "serve.py"]
    for program, *flags in commands[:-1]:
        command = [sys.executable, ROOT / program, *flags, *SMALLER.get(Path(program).name, [])]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    program, *flags = commands[-1]
    with subprocess.Popen(
        [sys.executable, ROOT / program, *flags, *SMALLER["serve.py"]], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield re.search(r"http://[^ ]+:\d+", process.stdout.readline())[0]
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            process.kill()


def test_a_list_has_titles_pictures_and_reasons(service):
    with httpx.Client(base_url=service) as client:
        user = client.get("/users?limit=1").json()["users"][0]["user"]
        found = client.get("/recommend", params={"user": user, "k": 5, "explain": 1}).json()
        assert len(found["items"]) == 5
        for entry in found["items"]:
            assert entry["title"] and sum(entry["why"]["parts"].values()) == pytest.approx(entry["score"], abs=1e-4)
            picture = client.get(entry["picture"])
            assert picture.content.startswith(b"\x89PNG") and picture.headers["content-type"] == "image/png"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("of", ["user", "items", "similar"])
def test_the_page_shows_a_list(service, tmp_path, of):
    with httpx.Client(base_url=service) as client:
        user = client.get("/users?limit=1").json()["users"][0]["user"]
        item = client.get("/items?limit=1").json()["items"][0]["item"]
        asked = {"user": {"user": user}, "items": {"items": [item]}, "similar": {"item": item}}[of]
        if of == "similar":
            wanted = client.get("/similar", params={**asked, "k": 4}).json()["items"]
        else:
            wanted = client.post("/recommend", json={**asked, "k": 4}).json()["items"]
    address = f"{service}/#search={user}&{of}={item if of != 'user' else user}&k=4"
    document, console = opened(address, tmp_path)
    assert console == []
    cards = re.search(r'<ol id="list">(.*)</ol>', document, re.DOTALL)[1]
    assert re.findall(r"<h3>(.*?)</h3>", cards) == [entry["title"] for entry in wanted]
    assert len(re.findall(r'<img[^>]* src="blob:', cards)) == len(wanted)
    assert f">{user}</button>" in document  # the search has found the user
    assert cards.count("<details") == (0 if of == "similar" else len(wanted))


def opened(address: str, folder: Path) -> tuple[str, list[str]]:
    """The document that a browser has made of an address, and what its console says."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={folder}",
        "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"HOME": str(folder)})
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
