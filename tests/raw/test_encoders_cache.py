"""The cache: rows found again by content, after kills, damage, and by several processes."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from sea_jax.errors import SeaError
from sea_jax.raw.encoders import Cache, base


class Numbered(base.Encoder):
    """A row of the text's length and its place in `seen`, which tells what was encoded anew."""

    name, version = "numbered/of:names", "1"

    def __init__(self):
        self.seen = []

    def transform(self, contents):
        for key, content in contents:
            self.seen.append(content)
            yield base.Result(key, np.array([len(content), 1.5]), cut=content.startswith("long"))


TEXTS = ["one", "three", "long one", None, "three"]


def encode(folder, texts=TEXTS, version="1", **settings):
    encoder = Numbered()
    encoder.version = version
    return encoder.encode(texts, cache=Cache(folder, **settings)), encoder.seen


def test_rows_are_found_again_and_one_changed_text_encodes_one(tmp_path):
    first, seen = encode(tmp_path)
    assert seen == ["one", "three", "long one"]
    again, seen = encode(tmp_path)
    assert seen == []
    assert again.reused == 3
    assert again.cut == first.cut == 1
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_array_equal(again.missing, first.missing)
    changed, seen = encode(tmp_path, ["one", "three!", "long one", None, "three"])
    assert seen == ["three!"]
    np.testing.assert_array_equal(changed.features[:, 0], [3, 6, 8, 0, 5])


def test_another_version_has_rows_of_its_own(tmp_path):
    encode(tmp_path)
    assert encode(tmp_path, version="2")[1] == ["one", "three", "long one"]
    assert encode(tmp_path)[1] == []
    assert len(list(tmp_path.glob("*/about.json"))) == 2


def test_files_are_plain_records(tmp_path):
    encode(tmp_path)
    (path,) = tmp_path.glob("*/rows-*.npy")
    records = np.load(path, allow_pickle=False)
    assert records.dtype.names == ("key", "cut", "row")
    assert records["row"].dtype == np.float32
    assert records["key"][0].tobytes() == base.digest("one")


def test_a_damaged_file_is_passed_over_and_its_rows_made_again(tmp_path):
    encode(tmp_path, rows=1)
    paths = sorted(tmp_path.glob("*/rows-*.npy"))
    assert len(paths) == 3
    paths[0].write_bytes(paths[0].read_bytes()[:-3])
    paths[1].write_bytes(b"")
    np.save(paths[2], np.zeros(3))
    encoded, seen = encode(tmp_path)
    assert len(seen) == 3
    np.testing.assert_array_equal(encoded.features[:, 0], [3, 5, 8, 0, 5])
    assert encode(tmp_path)[1] == []


def test_rows_are_kept_when_the_encoder_fails(tmp_path):
    class Failing(Numbered):
        def transform(self, contents):
            for result in super().transform(contents):
                if len(self.seen) == 3:
                    raise KeyboardInterrupt
                yield result

    with pytest.raises(KeyboardInterrupt):
        Failing().encode(TEXTS, cache=Cache(tmp_path))
    assert encode(tmp_path)[1] == ["long one"]


def test_a_killed_process_goes_on_where_it_was(tmp_path):
    program = """
        import os, sys
        import numpy as np
        from sea_jax.raw.encoders import Cache, base

        class Dying(base.Encoder):
            name, version = "numbered/of:names", "1"
            def transform(self, contents):
                for number, (key, content) in enumerate(contents):
                    if number == 25:
                        os._exit(9)
                    yield base.Result(key, np.array([len(content), 1.5]))

        Dying().encode([f"text {n}" for n in range(40)], cache=Cache(sys.argv[1], rows=10))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=False)
    assert done.returncode == 9
    texts = [f"text {n}" for n in range(40)]
    encoded, seen = encode(tmp_path, texts)
    assert seen == texts[20:]  # two files of ten were whole
    np.testing.assert_array_equal(encoded.features, encode(tmp_path / "new", texts)[0].features)


def test_half_written_files_are_not_read(tmp_path):
    encode(tmp_path)
    (path,) = tmp_path.glob("*/rows-*.npy")
    os.rename(path, path.with_name(f"tmp.1.{path.name}"))
    assert len(encode(tmp_path)[1]) == 3


def test_two_writers_do_not_disturb_each_other(tmp_path):
    cache = Cache(tmp_path)
    with cache.store("e", "1") as one, cache.store("e", "1") as other:
        one.put(b"a" * 32, np.ones(2, np.float32))
        other.put(b"a" * 32, np.ones(2, np.float32))
        other.put(b"b" * 32, np.zeros(2, np.float32))
    store = cache.store("e", "1")
    assert len(store) == 2
    assert {key: row.tolist() for key, row, _ in store.read([b"a" * 32, b"b" * 32])} == {
        b"a" * 32: [1, 1],
        b"b" * 32: [0, 0],
    }


def test_rows_that_wait_long_are_written(tmp_path):
    store = Cache(tmp_path, seconds=0.0).store("e", "1")
    store.put(b"a" * 32, np.ones(2, np.float32))
    assert len(list(tmp_path.glob("*/rows-*.npy"))) == 1
    assert [row.tolist() for _, row, _ in store.read([b"a" * 32])] == [[1, 1]]


def test_a_file_that_goes_away_is_one_sentence(tmp_path):
    encode(tmp_path)
    store = Cache(tmp_path).store(Numbered.name, "1")
    for path in tmp_path.glob("*/rows-*.npy"):
        path.unlink()
    with pytest.raises(SeaError, match="start again"):
        list(store.read([base.digest("one")]))


def test_a_file_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SeaError, match="is no folder"):
        encode(tmp_path / "file")
