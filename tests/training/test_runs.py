"""A run read by another machine, precision carried by the programs, seconds of compiling counted once."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sea_jax
from sea_jax import files
from sea_jax.config import Config
from sea_jax.training import loop, platform, runs, workdir

SMALL = {"batch_size": 64, "club_steps": 2, "topk": (5, 20), "epochs": 1}


def test_how_a_run_was_computed_is_the_readers_own():
    theirs = Config(devices="8", parallel="pmap", club_fit="kernel", propagation="jraph", num_processes=2, process_id=1)
    ours = runs.readers(dataclasses.replace(theirs, features="host", deterministic=True, alpha=0.5))
    assert ours == Config(alpha=0.5)


def test_a_run_of_a_larger_machine_is_evaluated_here(demo, tmp_path):
    run = sea_jax.fit(sea_jax.load(demo), Config(data_dir=str(demo), **SMALL), workdir=tmp_path / "run")
    path = tmp_path / "run" / workdir.RECORD
    record = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    record["config"] |= {"devices": "8", "parallel": "pmap", "club_fit": "kernel", "num_processes": 2, "process_id": 0}
    files.write_json(path, files.sealed(record))
    opened = sea_jax.open_run(tmp_path / "run")
    params, epoch = opened.parameters("latest")
    assert epoch == 1
    found = loop.measure(opened.restored(), params)
    assert found["test"] == pytest.approx(run.metrics["test"], abs=1e-6)


@pytest.mark.parametrize(("precision", "word"), [("float32", "HIGHEST"), ("bfloat16", "DEFAULT")])
def test_programs_carry_their_precision(demo, precision, word):
    """Whoever calls them; on an accelerator DEFAULT is bfloat16 or TF32."""
    run = loop.prepare(sea_jax.load(demo), Config(precision=precision, backbone="vbpr", **SMALL))
    params = run.progress.state.params
    for program, arguments in (
        (run.programs.rank, (params, run.data, run.ranking)),
        (run.programs.embed, (params, run.data)),
    ):
        with jax.default_matmul_precision("bfloat16" if precision == "float32" else "float32"):
            text = program.lower(*arguments).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert products
        assert all(
            f"precision = [{word}, {word}]" in line or (word == "DEFAULT" and "HIGHEST" not in line)
            for line in products
        )


def test_a_compilation_is_counted_once_however_often_the_platform_is_prepared():
    for _ in range(3):
        platform.prepare_platform(Config())
    before = len(platform._compiled)
    jax.jit(lambda x: jnp.sin(x) * 3 + np.float32(before))(jnp.ones(7)).block_until_ready()
    platform_entries = platform._compiled[before:]
    assert len(platform_entries) == len(set(platform_entries)) >= 1
