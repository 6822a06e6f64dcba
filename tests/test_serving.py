"""The service: answers against NumPy by hand, refusals, the process, the page in a browser."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sea_jax import SeaError, bundle_file
from sea_jax import bundle as bundles
from sea_jax.control import Control
from sea_jax.recommender import Recommender
from sea_jax.serving import catalogue, server
from sea_jax.serving.answers import Answers
from sea_jax.serving.app import application
from sea_jax.serving.metrics import Metrics

ROOT = Path(__file__).parent.parent
USERS, ITEMS, WIDTH = 7, 12, 4
RNG = np.random.default_rng(3)
VECTORS = RNG.normal(size=(USERS, WIDTH)).astype(np.float32), RNG.normal(size=(ITEMS, WIDTH)).astype(np.float32)
PAIRS = np.array([(u, i) for u in range(USERS) for i in ((u, u + 1, 3))])
TITLES = [f"Tea no. {n}" if n else "Größe <b>&" for n in range(ITEMS)]
CATEGORIES = ["green" if n % 2 else "black" for n in range(ITEMS)]
NAMES = [f"i/{n}" for n in range(ITEMS)]


def made(**more) -> Recommender:
    about = {"titles": TITLES, "categories": CATEGORIES, "item_ids": NAMES, "user_ids": list(range(100, 100 + USERS))}
    return Recommender.from_vectors(*VECTORS, PAIRS, **(about | more))


@pytest.fixture(scope="module")
def client():
    with TestClient(application(Answers(made()))) as opened:
        yield opened


def by_hand(user: int, k: int, left_out=None, of=None) -> list[str]:
    scores = VECTORS[0][user].astype(np.float64) @ VECTORS[1].T.astype(np.float64)
    left_out = {i for u, i in PAIRS.tolist() if u == user} if left_out is None else left_out
    order = [i for i in np.argsort(-scores) if i not in left_out and (of is None or i in of)]
    return [NAMES[i] for i in order[:k]]


def names(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["item"] for entry in answer.json()["items"]]


def test_a_users_list(client):
    found = client.get("/recommend?user=102&k=4")
    assert names(found) == by_hand(2, 4)
    first, item = found.json()["items"][0], NAMES.index(by_hand(2, 1)[0])
    assert found.json()["user"] == 102
    assert first["title"] == TITLES[item] and first["category"] == CATEGORIES[item]
    assert first["score"] == pytest.approx(float(VECTORS[0][2] @ VECTORS[1][item]), rel=1e-5)
    assert set(first) == {"item", "score", "title", "category"}


def test_names_of_cornac_are_understood(client):
    assert names(client.get("/recommend?uid=102&k=12&remove_seen=false")) == by_hand(2, 12, left_out=())
    assert names(client.post("/recommend", json={"uid": 102, "k": 3})) == by_hand(2, 3)


@pytest.mark.parametrize("user", [102, "102"])
def test_wishes(client, user):
    def ask(**more):
        return names(client.post("/recommend", json={"user": user, "k": ITEMS, **more}))

    assert ask(deny=NAMES[:6]) == by_hand(2, ITEMS, left_out={*range(6)})
    assert ask(allow=NAMES[5:8]) == by_hand(2, ITEMS, of=(5, 6, 7))
    assert ask(categories=["green"]) == by_hand(2, ITEMS, of=range(1, ITEMS, 2))
    assert ask(only_new=True) == by_hand(2, ITEMS, left_out={*range(8)})
    assert ask(boosts={NAMES[9]: 1000})[0] == NAMES[9]
    assert sorted(ask(diversity=0.9)) == sorted(ask())
    assert names(client.get(f"/recommend?user=102&k=12&exclude={quote(NAMES[5])},{quote(NAMES[6])}")) == by_hand(
        2, ITEMS, left_out={2, 3, 5, 6}
    )


def test_diversity_goes_by_features_where_there_are_any():
    """As `Control(content=...)` with the same rows has it, read when they are first asked for."""
    rows, loaded = np.random.default_rng(8).normal(size=(ITEMS, 3)).astype(np.float32), []

    def content():
        loaded.append(None)
        return rows

    wishes = {"diversity": 0.7, "content": rows}
    expected = made().recommend([102], 6, control=Control(**wishes))[0][0].tolist()
    assert expected != made().recommend([102], 6, control=Control(diversity=0.7))[0][0].tolist()
    with TestClient(application(Answers(made(), content=content))) as client:
        assert names(client.get("/recommend?user=102&k=6")) == by_hand(2, 6) and not loaded
        for _ in range(2):
            assert names(client.get("/recommend?user=102&k=6&diversity=0.7")) == expected
        assert len(loaded) == 1
    popular = Recommender.from_item_scores(np.arange(ITEMS), PAIRS, item_ids=NAMES)
    with TestClient(application(Answers(popular))) as client:
        answer = client.get("/recommend?user=2&diversity=0.7")
        assert answer.status_code == 400
        assert answer.json() == {"error": "This service does not know which items are alike; ask without diversity."}


def test_features_that_cannot_be_read_name_no_file():
    def content():
        raise SeaError("/secret/place/features.npz is damaged.")

    with TestClient(application(Answers(made(), content=content))) as client:
        answer = client.get("/recommend?user=102&diversity=0.7")
        check_refusal(answer)
        assert answer.status_code == 400 and "secret" not in answer.text
        assert names(client.get("/recommend?user=102&k=6")) == by_hand(2, 6)


def test_features_of_the_bundle_are_found(demo, tmp_path):
    bundle = bundles.load(demo)
    found = Recommender.from_vectors(
        np.ones((bundle.num_users, 2)), np.ones((bundle.num_items, 2)), bundle.train,
        user_ids=bundle.user_ids, item_ids=bundle.item_ids,
    )  # fmt: skip
    rows = server.content_of(str(demo), found)()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in bundle.features.values()]
    np.testing.assert_allclose(rows, np.concatenate(unit, axis=1), rtol=1e-5, atol=1e-6)
    assert server.content_of(str(tmp_path), found)() is found.item_vectors
    other = dataclasses.replace(found, item_ids=np.arange(1000, 1000 + bundle.num_items))
    assert server.content_of(str(demo), other)() is other.item_vectors


def test_a_basket_and_why(client):
    found = client.post("/recommend", json={"items": NAMES[:2], "weights": [1, 2], "k": 3, "explain": True})
    assert found.json()["basket"] == NAMES[:2]
    assert not set(names(found)) & set(NAMES[:2])
    for entry in found.json()["items"]:
        assert sum(entry["why"]["parts"].values()) == pytest.approx(entry["score"], abs=1e-5)
        assert {near["item"] for near in entry["why"]["nearest"]} == set(NAMES[:2])
    boosted = client.post("/recommend", json={"user": 102, "boosts": {NAMES[9]: 2}, "explain": True, "k": ITEMS}).json()
    entry = next(entry for entry in boosted["items"] if entry["item"] == NAMES[9])
    assert entry["why"]["parts"]["boost"] == pytest.approx(2 * (VECTORS[0][2] @ VECTORS[1].T).std(), rel=1e-4)
    assert sum(entry["why"]["parts"].values()) == pytest.approx(entry["score"], abs=1e-5)


def test_strangers_get_what_is_popular_where_asked(client):
    assert client.get("/recommend?user=nobody").status_code == 404
    found = client.get("/recommend?user=nobody&stranger=popular&k=2&explain=1")
    assert names(found) == [NAMES[3], NAMES[1]]  # all have seen 3; then 1, 2, 4, ... by two each
    assert found.json()["items"][0]["score"] == USERS
    assert names(client.get("/recommend?user=102&stranger=popular&k=2")) == by_hand(2, 2)


def test_similar_items_and_what_is_known(client):
    unit = VECTORS[1] / np.linalg.norm(VECTORS[1], axis=1, keepdims=True)
    order = [NAMES[i] for i in np.argsort(-(unit @ unit[4])) if i != 4]
    assert names(client.get(f"/similar?item={quote(NAMES[4], safe='')}&k=3")) == order[:3]
    known = client.get(f"/items/{quote(NAMES[0], safe='')}").json()
    assert known == {"item": NAMES[0], "title": TITLES[0], "category": "black", "seen_by": 1}
    user = client.get("/users/102").json()
    assert user["seen"] == 2 and [entry["item"] for entry in user["items"]] == [NAMES[2], NAMES[3]]


def test_search(client):
    def items(text):
        return [entry["item"] for entry in client.get("/items", params={"search": text}).json()["items"]]

    assert items("GRÖSSE") == [NAMES[0]]  # ß and SS are the same letters
    assert items("i/1") == [NAMES[1], NAMES[10], NAMES[11]]
    assert items("no such") == []
    assert items("tea no. 3\ni/") == []  # nothing is found across two items
    assert len(client.get("/items?limit=5").json()["items"]) == 5
    assert client.get("/users?search=03").json() == {"users": [{"user": 103}]}


def test_health_and_metrics():
    with TestClient(application(Answers(made(notes={"dataset": "teas"})))) as client:
        assert client.get("/health").json() == {"status": "ok", "users": USERS, "items": ITEMS, "dataset": "teas"}
        for path in (
            "/recommend?user=101",
            "/recommend?user=101",
            "/recommend?user=nobody",
            "/nothing",
            "/items/a%2Fb",
        ):
            client.get(path)
        lines = client.get("/metrics").text.splitlines()
    assert 'sea_requests_total{route="/recommend",method="GET",status="200"} 2' in lines
    assert 'sea_requests_total{route="/recommend",method="GET",status="404"} 1' in lines
    assert 'sea_requests_total{route="/items/ITEM",method="GET",status="404"} 1' in lines
    assert 'sea_requests_total{route="other",method="GET",status="404"} 1' in lines
    assert 'sea_request_seconds_count{route="/recommend"} 3' in lines
    assert f"sea_items {ITEMS}" in lines
    assert all(re.fullmatch(r'#.*|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+-]+', line) for line in lines)


def test_buckets_add_up():
    counted = Metrics()
    for seconds in (0.0005, 0.001, 0.002, 9.0):
        counted.count("/x", "GET", 200, seconds)
    text = counted.text()
    for bound, count in (("0.001", 2), ("0.0025", 3), ("5.0", 3), ("+Inf", 4)):
        assert f'sea_request_seconds_bucket{{route="/x",le="{bound}"}} {count}\n' in text


ADDRESSES = [
    "/recommend", "/recommend?user=", "/recommend?user=101&uid=102", "/recommend?user=101&k=0", "/recommend?user=101&k=-1",
    "/recommend?user=101&k=1001", "/recommend?user=101&k=abc", "/recommend?user=101&k=1e3", "/recommend?user=101&k=²",
    "/recommend?user=101&k=" + "9" * 5000, "/recommend?user=101&user=102", "/recommend?user=101&what=1",
    "/recommend?user=101&exclude_seen=perhaps", "/recommend?user=101&exclude=nobody", "/recommend?user=101&stranger=rich",
    "/recommend?user=101&diversity=2", "/recommend?user=101&diversity=nan", "/recommend?user=101&boosts=1",
    "/recommend?user=101&items=i/1", "/recommend?items=", "/recommend?items=nothing", "/recommend?user=101&categories=red",
    "/recommend?user=" + "9" * 5000, "/recommend?user=%00", "/recommend?user=%ff%fe", "/recommend?user=0101", "/similar",
    "/similar?item=nothing", "/similar?item=i/1&k=x", "/similar?k=3", "/items/nothing", "/items/%2e%2e%2fetc",
    "/items?limit=0", "/items?search=" + "a" * 201, "/items?limit=5&limit=6", "/users/nobody", "/users?x=1", "/pictures/i%2F1",
    "/pictures/..%2F..%2Fetc%2Fpasswd", "/pictures//etc/passwd", "/page/page.js", "/recommend/", "/health/x",
]  # fmt: skip
BODIES = [
    b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b'{"user": NaN}', b'{"user": 101, "user": 102}', b"[" * 100_000,
    b'{"user": 101, "k": 1e999}', b'{"user": 101, "k": ' + b"9" * 5000 + b"}", b'{"user": "\\ud800"}', b'{"what": 1}',
    b'{"\\ud800": 1}', b"{" + b" " * (1 << 20) + b"}",
]  # fmt: skip
FIELDS = [
    {}, {"user": None}, {"user": [1]}, {"user": {}}, {"user": True}, {"user": 1.5}, {"user": 10**30}, {"items": []},
    {"items": "i/1"}, {"items": [None]}, {"items": [["i/1"]]}, {"items": ["i/1"] * 10_001}, {"items": ["i/1"], "user": 101},
    {"items": ["i/1"], "weights": []}, {"items": ["i/1"], "weights": [0]}, {"items": ["i/1"], "weights": [-1]},
    {"items": ["i/1"], "weights": [1e300]}, {"items": ["i/1"], "weights": ["x"]}, {"items": ["i/1"], "weights": [True]},
    {"user": 101, "weights": [1]}, {"user": 101, "k": "5"}, {"user": 101, "k": 2.5}, {"user": 101, "k": True},
    {"user": 101, "k": None}, {"user": 101, "exclude_seen": 1}, {"user": 101, "allow": "i/1"}, {"user": 101, "deny": {}},
    {"user": 101, "allow": ["x"]}, {"user": 101, "deny": [1.5]}, {"user": 101, "categories": "green"},
    {"user": 101, "categories": ["red"]}, {"user": 101, "categories": [[]]}, {"user": 101, "only_new": "yes"},
    {"user": 101, "boosts": []}, {"user": 101, "boosts": {"x": 1}}, {"user": 101, "boosts": {"i/1": "x"}},
    {"user": 101, "boosts": {"i/1": 1e300}}, {"user": 101, "boosts": {"i/1": None}}, {"user": 101, "diversity": -1},
    {"user": 101, "diversity": "x"}, {"user": 101, "stranger": 1}, {"user": 101, "explain": "x"}, {"user": 101, "deny": None},
]  # fmt: skip


def check_refusal(answer):
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    found = answer.json()
    assert list(found) == ["error"] and 5 < len(found["error"]) <= 600 and "\n" not in found["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: address[:40])
def test_an_address_that_makes_no_sense(client, address):
    check_refusal(client.get(address))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body[:30]))
def test_a_body_that_makes_no_sense(client, body):
    answer = client.post("/recommend", content=body)
    check_refusal(answer)
    assert answer.status_code == (413 if len(body) > 1 << 20 else answer.status_code)


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: str(fields)[:60])
def test_fields_that_make_no_sense(client, fields):
    check_refusal(client.post("/recommend", json=fields))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_other_methods(client, method):
    answer = client.request(method, "/recommend")
    check_refusal(answer)
    assert answer.status_code == 405


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.sampled_from([101, *NAMES]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
KNOWN = ("user", "uid", "items", "weights", "k", "exclude_seen", "allow", "deny", "categories", "only_new", "boosts", "diversity",
         "stranger", "explain")  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=5))
def test_whatever_is_asked_is_answered_or_refused(client, fields):
    answer = client.post("/recommend", content=json.dumps(fields), headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    assert ("items" in answer.json()) == (answer.status_code == 200)


@pytest.mark.parametrize("token", ["", "a b", "sésame", "a\n"])
def test_a_token_that_nobody_could_send_is_refused(monkeypatch, token):
    monkeypatch.setenv(server.TOKEN, token)
    with pytest.raises(SeaError, match="SEA_JAX_TOKEN must be"):
        server.token()


def test_on_loopback_other_names_are_refused():
    """A page of another site, whose name has come to mean this machine, names its own host."""
    with TestClient(application(Answers(made()), hosts=("localhost", "::1"))) as client:
        for host, status in (
            ("localhost:8000", 200), ("LOCALHOST", 200), ("[::1]:8000", 200), ("evil.example:8000", 400), ("", 400),
        ):  # fmt: skip
            answer = client.get("/recommend?user=101", headers={"host": host})
            assert answer.status_code == status, host
        assert client.get("/", headers={"host": "evil.example"}).json()["error"].endswith("as localhost.")


def test_a_token():
    with TestClient(application(Answers(made()), token="sesame")) as client:
        for headers in (
            {},
            {"authorization": "Bearer"},
            {"authorization": "Bearer sesam"},
            {"authorization": "sesame"},
        ):
            answer = client.get("/recommend?user=101", headers=headers)
            check_refusal(answer)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/recommend?user=101", headers={"authorization": "Bearer sesame"}).status_code == 200
        assert client.get("/metrics").status_code == client.get("/items/i%2F1").status_code == 401
        assert (
            client.get("/health").status_code
            == client.get("/").status_code
            == client.get("/page.js").status_code
            == 200
        )
        assert client.get("/items", headers=[("authorization", b"Bearer \xff")]).status_code == 401


def test_ids_of_either_kind():
    numbers = np.array([7, -7, 0])
    assert [catalogue.id_of(one, numbers) for one in ("7", 7, "-7", "0", "007", "-0", "+7", " 7", "٣", "7.0", 7.0, True)] == [
        7, 7, -7, 0, None, None, None, None, None, None, None, None,
    ]  # fmt: skip
    assert [catalogue.id_of(one, np.array(["7"])) for one in ("7", 7, None, 7.5)] == ["7", "7", None, None]


def test_pictures_lie_in_their_folder(tmp_path, demo):
    from sea_jax import bundle as bundles

    bundle = bundles.load(demo)
    root = tmp_path / "pictures"
    root.mkdir()
    for file in (root / "a.png", tmp_path / "secret.png", root / "b.txt"):
        file.write_bytes(b"picture")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    paths = [
        "a.png",
        "../secret.png",
        "link.png",
        "b.txt",
        str(root / "a.png"),
        str(tmp_path / "secret.png"),
        "gone.png",
        "",
        ".",
    ]
    bundle.shown["pictures"] = np.array(paths + [""] * (bundle.num_items - len(paths)))
    bundle.save(tmp_path / "bundle")
    ids, shown = bundle_file.load_shown(tmp_path / "bundle")
    assert (ids == (np.arange(bundle.num_items) if bundle.item_ids is None else bundle.item_ids)).all()
    assert shown["pictures"].tolist()[: len(paths)] == paths
    found = catalogue.pictures(tmp_path / "bundle", root, ids)
    assert found == {0: root / "a.png", 4: root / "a.png"}
    with pytest.raises(SeaError, match="is no folder"):
        catalogue.pictures(tmp_path / "bundle", tmp_path / "gone", ids)
    one = Recommender.from_vectors(np.ones((1, 2)), np.ones((len(ids), 2)), np.zeros((0, 2), int), item_ids=ids)
    with TestClient(application(Answers(one, found))) as client:
        entry = client.get(f"/items/{ids[0]}").json()
        picture = client.get(entry["picture"])
        assert (picture.content, picture.headers["content-type"]) == (b"picture", "image/png")
        check_refusal(client.get(f"/pictures/{ids[1]}"))
        (root / "a.png").unlink()
        check_refusal(client.get(entry["picture"]))


def test_what_cannot_be_served(tmp_path):
    for arguments, sentence in (
        ({}, "name either --recommender"),
        ({"recommender": "x", "run": "y"}, "name either --recommender"),
        ({"run": str(tmp_path)}, "holds no run"),
        ({"recommender": str(tmp_path / "x.npz")}, "is missing"),
    ):
        with pytest.raises(SeaError, match=sentence):
            server.answers(**arguments)
    made().save(tmp_path / "made.npz")
    with pytest.raises(SeaError, match="--image_root needs --data_dir"):
        server.answers(recommender=str(tmp_path / "made.npz"), image_root=str(tmp_path))


@contextlib.contextmanager
def served(*flags, **environment):
    """The program on a free port: (process, address)."""
    command = [sys.executable, "experiments/serve.py", "--port=0", *flags]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r"http://[^ ]+:\d+", line)
            assert found, line + process.stderr.read()
            yield process, found[0]
        finally:
            process.kill()


def test_the_program_stops_gracefully_and_comes_back(tmp_path):
    made().save(tmp_path / "made.npz")
    file = f"--recommender={tmp_path / 'made.npz'}"
    before = (tmp_path / "made.npz").read_bytes()
    answers = []
    for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 0)):
        with served(file) as (process, address):
            with httpx.Client(base_url=address) as client:
                answers.append(client.get("/recommend?user=102&k=4").json())
            process.send_signal(number)
            assert process.wait(15) == code, process.stderr.read()
    assert answers[0] == answers[1] == answers[2]
    assert [entry["item"] for entry in answers[0]["items"]] == by_hand(2, 4)
    assert (tmp_path / "made.npz").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_port_that_is_taken_is_one_sentence(tmp_path):
    made().save(tmp_path / "made.npz")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "experiments/serve.py", f"--recommender={tmp_path / 'made.npz'}",
                   f"--port={taken.getsockname()[1]}"]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_service_needs_no_jax(tmp_path):
    made().save(tmp_path / "made.npz")
    code = f"""
import sys
sys.modules["jax"] = sys.modules["flax"] = None  # an import of either raises
from sea_jax.serving import server
from sea_jax.serving.app import application
application(server.answers(r"{tmp_path / "made.npz"}"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
