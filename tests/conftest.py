"""Small data that several tests share, and the programs that they compile."""

import atexit
import os
import shutil
import tempfile

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # before JAX is imported; processes that tests start inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="sea_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import jax
import numpy as np
import pytest

from sea_jax.raw.demo import make_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Folder of a small demo bundle."""
    path = tmp_path_factory.mktemp("data") / "demo"
    make_demo(path, num_users=60, num_items=50, mean_interactions=7.0, factors=2, seed=1)
    return path


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["on CPU", "elsewhere"])
def either_platform(request, monkeypatch):
    """A test with each of the programs between which the platform chooses."""
    if request.param == "elsewhere":
        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, default, **_: default(*operands))


@pytest.fixture
def mmrec(tmp_path, rng):
    """Folder of a small MMRec dataset with images, texts and id maps."""
    folder = tmp_path / "toys"
    folder.mkdir()
    lines = ["userID\titemID\trating\tx_label"]
    for user in range(6):
        for place, item in enumerate(rng.permutation(8)[:5]):
            lines.append(f"{user}\t{item}\t4.0\t{max(0, place - 2)}")
    (folder / "toys.inter").write_text("\n".join(lines) + "\n")
    np.save(folder / "image_feat.npy", rng.normal(size=(9, 6)))
    np.save(folder / "text_feat.npy", rng.normal(size=(9, 5)).astype(np.float32))
    users = "\n".join(f"u{n}\t{n}" for n in range(6))
    items = "\n".join(f"B00{n}\t{n}" for n in range(9))
    (folder / "u_id_mapping.csv").write_text(f"user_id\tuserID\n{users}\n")
    (folder / "i_id_mapping.csv").write_text(f"asin\titemID\n{items}\n")
    return folder
