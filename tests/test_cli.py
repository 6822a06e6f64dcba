"""Flags: their errors are one sentence and exit code 1; flagfiles in any spelling; help in groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
'''Does nothing.'''
from absl import flags
from sea_jax import cli

def main(argv):
    print(cli.config_from_flags(), cli.FLAGS.word)

if __name__ == "__main__":
    cli.define_config_flags()
    flags.DEFINE_string("word", None, "a word", required=True)
    cli.run(main)
"""


@pytest.fixture
def program(tmp_path):
    """Runs a program that needs no JAX; returns (exit code, stdout, stderr)."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "flags").mkdir()
    (folder / "flags" / "shipped.flags").write_text("--word=shipped\n")
    (folder / "program.py").write_text(PROGRAM)

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, folder / "program.py", *arguments], capture_output=True, cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        )  # fmt: skip
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    return run


BAD = {
    "unknown": (["--word=a", "--temprature=1"], "Unknown command line flag 'temprature'"),
    "wrong type": (["--word=a", "--epochs=ten"], "flag --epochs=ten"),
    "wrong choice": (["--word=a", "--backbone=svd"], "flag --backbone=svd"),
    "missing": ([], "--word"),
    "stray": (["--word=a", "baby"], "unexpected argument baby"),
    "impossible": (["--word=a", "--seed=4294967297"], "--seed=4294967297 must be at most 4294967295"),
    "beyond int32": (["--word=a", "--topk=20,4294967296"], "must be at most 2147483647"),
    "nan": (["--word=a", "--alpha=nan"], "must be a finite number"),
    "no flagfile": (["--flagfile=nobody.flags"], "nobody.flags is neither in the working directory nor"),
    "empty flagfile": (["--flagfile="], "is neither in the working directory"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_one_sentence(program, name):
    arguments, message = BAD[name]
    code, out, err = program(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "spelling", [["--flagfile=mine.flags"], ["--flagfile", "mine.flags"], ["-flagfile=mine.flags"]]
)
def test_flagfiles_in_any_spelling_and_encoding(program, tmp_path, spelling):
    (tmp_path / "mine.flags").write_bytes("\ufeff# a comment\n--word=wört\n--flagfile=more.flags\n".encode())
    (tmp_path / "more.flags").write_bytes(b"--epochs=7\r\n\r\n// another\r\n")
    code, out, err = program(*spelling, "--seed=3", PYTHONUTF8="0", LC_ALL="C", PYTHONIOENCODING="utf-8")
    assert code == 0, err
    assert "epochs=7" in out and "seed=3" in out and out.strip().endswith("wört")


def test_a_flagfile_that_is_not_here_is_looked_for_among_the_shipped_ones(program):
    assert program("--flagfile=shipped.flags")[1].strip().endswith("shipped")
    assert program("--flagfile", "shipped.flags", "--word=later")[1].strip().endswith("later")  # later flags win


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--word=a\n--data_dir=\xe9\n", "line 2: byte 0xe9 is no UTF-8"),
        (b"\x1f\x8b\x08\x00", "but gzip"),
        ("--word=a\n".encode("utf-16"), "but UTF-16"),
        (b"--flagfile=mine.flags\n", "includes itself"),
    ],
)
def test_what_is_no_flagfile_is_told(program, tmp_path, content, message):
    (tmp_path / "mine.flags").write_bytes(content)
    code, _, err = program("--flagfile=mine.flags")
    assert code == 1
    assert message in err and len(err.strip().splitlines()) == 1


def test_help_has_groups_and_every_setting(program):
    code, out, _ = program("--help")
    assert code == 0
    assert out.startswith("Does nothing.")
    for title in ("Paths and time:", "Data:", "Model:", "Loss:", "Optimiser:", "Evaluation and stopping:", "Records:"):
        assert f"\n{title}\n" in out
    assert "--layers=" in out and "by default the backbone's own" in out
