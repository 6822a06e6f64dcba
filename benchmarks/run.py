"""Times the training step, its parts, an epoch and the ranking, and an eager PyTorch step beside them.

`python benchmarks/run.py --shapes=tiktok,baby --json=FILE [--interactions=DIR]`
"""

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import parts, shapes
from sea_jax import cli, files
from sea_jax.errors import SeaError
from sea_jax.training import loop, parallel
from sea_jax.training.state import host_data
from sea_jax.training.step import step

DENSE_LIMIT = 4 << 30  # bytes of one items x items array beyond which the dense PyTorch step is left out

# As in an epoch, several steps are one call: a call has the system prepare its memory anew, at a cost that varies.
STEPS_A_CALL = 4

SETTINGS = ("precision", "propagation", "club_fit")  # of how it is computed

SAME_LOSS = 1e-4  # largest relative difference of losses between the two implementations


def parameter_name(path) -> str:
    """The name that torch_step.py has for one of our parameters, given its tree path."""
    name = "/".join(key.key for key in path).replace("separation/", "").replace("mlp_", "mlp")
    return name.replace("_user_preference", "/user_preference")


def time_jax(bundle, seconds: float) -> dict:
    """Everything about this package's own programs at one shape."""
    load = os.getloadavg()[0]
    run = loop.prepare(bundle, shapes.settings(**{name: cli.FLAGS[name].value for name in SETTINGS}))
    config = run.config
    model, state, data = run.model, run.progress.state, run.data
    batch, draws = parts.first_batch(model, config, data)

    def steps_in_one_call(state, data, batch, draws):
        body = lambda state, _: step(state, data, batch, draws, model=model, config=config)[:2]  # noqa: E731
        return jax.lax.scan(body, state, length=STEPS_A_CALL)

    began = time.perf_counter()
    compiled = jax.jit(steps_in_one_call, donate_argnums=0).lower(state, data, batch, draws).compile()
    compile_s = time.perf_counter() - began
    state, losses = compiled(jax.tree.map(jnp.copy, state), data, batch, draws)
    losses = {name: float(values[0]) for name, values in losses.items()}
    times, began = [], time.perf_counter()
    while len(times) < 20 and (len(times) < 3 or time.perf_counter() - began < seconds):
        start = time.perf_counter()
        state, found = compiled(state, data, batch, draws)
        jax.block_until_ready((state, found))
        times.append((time.perf_counter() - start) / STEPS_A_CALL)
    step_s = statistics.median(times)
    result = {
        "load_average_before": load,
        "device": jax.devices()[0].device_kind,
        "precision": config.precision,
        "propagation": config.propagation,
        "club_fit": config.club_fit,
        "topology": "real" if bundle.manifest["real"] else "synthetic",
        "compile_s": compile_s,
        "step_ms": 1e3 * step_s,
        "losses": losses,
        "estimated": [],
    }

    steps = result["steps"] = -(-len(bundle.train) // config.batch_size)
    if steps * step_s < 3 * seconds:
        began = time.perf_counter()
        run, first = loop.advance(run)
        result["first_epoch_s"] = first["seconds"]
        run, second = loop.advance(run)
        result |= {"epoch_s": second["seconds"], "eval_s": second["eval_seconds"]}
    else:
        result["epoch_s"] = steps * step_s
        result["estimated"].append("epoch_s")
        result["eval_s"] = time_ranking(run, seconds, result)
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    limits = parts.machine_limits()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    edges = bundle.adjacency.nnz, host_data(bundle, config).graphs["item"].nnz
    counted = parts.count(model, *edges, config, config.batch_size, parameters)
    result["machine"] = limits
    result["parts"] = {}
    for name, (function, arguments) in parts.programs(model, data, config, state, batch, draws).items():
        spent = parts.timed(jax.jit(function), arguments, seconds=seconds / 5)
        least = max(counted[name]["flops"] / limits["flops_per_s"], counted[name]["bytes"] / limits["bytes_per_s"])
        result["parts"][name] = {"ms": 1e3 * spent, **counted[name], "fraction_of_machine": least / spent}
    result["flops"] = sum(part["flops"] for part in counted.values())
    return result


def time_ranking(run, seconds: float, result: dict) -> float:
    """Seconds of a whole ranking; of its first blocks, scaled up, if the whole would take too long."""
    blocks = run.ranking.users.shape[0]
    some = min(blocks, 4)
    part = run._replace(ranking=jax.tree.map(lambda x: x[:some], run.ranking))
    loop.measure(part, run.progress.state.params)
    embed = parts.timed(run.programs.embed, (run.progress.state.params, run.data), seconds=seconds / 5)
    began = time.perf_counter()
    loop.measure(part, run.progress.state.params)
    result["estimated"].append("eval_s")
    return embed + (time.perf_counter() - began - embed) * blocks / some


def time_torch(bundle, seconds: float) -> dict:
    """The eager PyTorch step from the same parameters on the same batch, with its faster number of threads."""
    import torch

    from benchmarks.torch_step import EagerStep

    config = shapes.settings()
    run = loop.prepare(bundle, config)
    batch, draws = parts.first_batch(run.model, config, run.data)
    state = run.progress.state
    params = {parameter_name(path): np.array(x) for path, x in jax.tree_util.tree_leaves_with_path(state.params)}
    for path, x in jax.tree_util.tree_leaves_with_path(state.club_params):
        params[f"club/{parameter_name(path)}"] = np.array(x)
    stepper = EagerStep(
        params,
        bundle.features,
        bundle.adjacency,
        host_data(bundle, config).graphs["item"],
        alpha=config.alpha,
        ureg=config.ureg,
        temperature=config.temperature,
        learning_rate=config.learning_rate,
        club_steps=config.club_steps,
    )
    columns = [torch.from_numpy(np.array(x, np.int64)) for x in (batch.users, batch.positives, batch.negatives)]
    permutations = {name: torch.from_numpy(np.array(x, np.int64)) for name, x in draws.permutations.items()}
    losses = stepper.step(*columns, permutations)
    by_threads = {}
    # More threads are not always faster: beside other work their barriers can cost more than they save.
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        stepper.step(*columns, permutations)
        times, began = [], time.perf_counter()
        while len(times) < 10 and (len(times) < 3 or time.perf_counter() - began < seconds):
            start = time.perf_counter()
            stepper.step(*columns, permutations)
            times.append(time.perf_counter() - start)
        by_threads[threads] = 1e3 * statistics.median(times)
    return {
        "torch_step_ms": min(by_threads.values()),
        "torch_step_ms_by_threads": by_threads,
        "torch_losses": losses,
        "torch_version": torch.__version__,
        "torch_peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_own_process(worker: str, shape: str) -> dict:
    """A worker's result; a process of its own has a peak memory of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, __file__, f"--worker={worker}", f"--shapes={shape}", f"--json={file.name}"]
        passed = ("interactions", "seconds", *SETTINGS)
        command += [f"--{flag}={cli.FLAGS[flag].value}" for flag in passed]
        # Waiting threads that spin would take the cores from other work, and from PyTorch's own.
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        if subprocess.run(command, check=False, env=environment).returncode:
            raise SeaError(f"the {worker} benchmark of shape {shape} failed; its own message is above.")
        return json.loads(Path(file.name).read_text())


def compare(result: dict, beside: dict) -> dict:
    """Both results together, with the ratio of their steps and the largest relative difference of their losses."""
    ours, theirs = result.pop("losses"), beside.pop("torch_losses")
    apart = {
        name: abs(ours[name] - theirs[name]) / max(abs(theirs[name]), 1e-2) for name in ("bpr", "solosim", "total")
    }
    if not max(apart.values()) <= SAME_LOSS:
        raise SeaError(
            f"PyTorch and JAX differ in their losses by {max(apart.values()):.1e}; their times do not compare."
        )
    torch_ms = beside["torch_step_ms"]
    measured = "epoch_s" not in result["estimated"]
    ratios = {
        "ratio_to_torch": torch_ms / result["step_ms"],
        # An eager epoch is its steps; where our epoch is estimated, this would be the ratio of steps again.
        "epoch_ratio_to_torch": result["steps"] * torch_ms / 1e3 / result["epoch_s"] if measured else None,
    }
    return result | beside | ratios | {"largest_loss_difference": max(apart.values())}


def measure(shape: str) -> dict:
    """One shape, in two processes."""
    result = in_own_process("jax", shape)
    items = shapes.SHAPES[shape].items
    reason = "" if cli.FLAGS.torch else "switched off"
    if cli.FLAGS.precision != "float32":
        reason = "its products are float32"
    if 4 * items**2 > DENSE_LIMIT:
        reason = f"one dense items x items array takes {4 * items**2 / 2**30:.1f} GiB"
    if reason:
        result.pop("losses")
        unknown = dict.fromkeys(("torch_step_ms", "ratio_to_torch", "epoch_ratio_to_torch"))
        return result | unknown | {"torch_left_out": reason}
    return compare(result, in_own_process("torch", shape))


def table(results: dict) -> str:
    """The results for a person."""
    lines = [
        f"{'shape':10s}{'topology':11s}{'step ms':>10s}{'epoch s':>10s}{'eval s':>9s}{'peak MB':>9s}{'torch ms':>10s}{'ratio':>7s}"
        f"{'by epoch':>10s}"
    ]
    for name, found in results.items():
        torch_ms, ratio, by_epoch = (found[key] for key in ("torch_step_ms", "ratio_to_torch", "epoch_ratio_to_torch"))
        lines.append(
            f"{name:10s}{found['topology']:11s}{found['step_ms']:10.0f}{found['epoch_s']:10.1f}{found['eval_s']:9.2f}"
            f"{found['peak_memory_mb']:9.0f}"
            + (f"{torch_ms:10.0f}{ratio:7.1f}" if torch_ms else f"{'-':>10s}{'-':>7s}")
            + (f"{by_epoch:10.1f}" if by_epoch else f"{'-':>10s}")
        )
    for name, found in results.items():
        lines.append(f"\n{name}: parts of a step (ms, GFLOP, MB, share of the machine's limit)")
        for part, of in found["parts"].items():
            lines.append(
                f"  {part:12s}{of['ms']:9.1f}{of['flops'] / 1e9:10.2f}{of['bytes'] / 1e6:10.1f}"
                f"{of['fraction_of_machine']:8.0%}"
            )
        if found["estimated"]:
            lines.append(f"  estimated from a part of the work: {', '.join(found['estimated'])}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    del argv
    names = cli.FLAGS.shapes
    if cli.FLAGS.torch and importlib.util.find_spec("torch") is None:
        raise SeaError("torch is missing: pip install -e .[benchmark], or leave it out by --notorch.")
    if cli.FLAGS.json and not Path(cli.FLAGS.json).absolute().parent.is_dir():
        raise SeaError(f"--json={cli.FLAGS.json}: its folder does not exist.")
    unknown = [name for name in names if name not in shapes.SHAPES]
    if unknown:
        raise SeaError(f"--shapes={unknown[0]} is not one of {', '.join(shapes.SHAPES)}.")
    if cli.FLAGS.worker:
        work = {"jax": time_jax, "torch": time_torch}[cli.FLAGS.worker]
        with jax.default_matmul_precision(parallel.MATMUL[cli.FLAGS.precision]):
            found = work(shapes.make(names[0], cli.FLAGS.interactions), cli.FLAGS.seconds)
        Path(cli.FLAGS.json).write_text(json.dumps(found))
        return 0
    # A shape whose measurement fails ends the run, but what is measured already is on disk.
    results = {}
    for name in names:
        results[name] = measure(name)
        if cli.FLAGS.json:
            files.write_text(Path(cli.FLAGS.json), json.dumps(results, indent=1) + "\n")
    print(table(results))
    return 0


if __name__ == "__main__":
    cli.define_config_flags(SETTINGS)
    flags.DEFINE_list("shapes", ["tiktok", "baby"], f"which of {', '.join(shapes.SHAPES)}")
    flags.DEFINE_string("json", "", "file the results are written to")
    flags.DEFINE_string("interactions", "", "folder with NAME.inter of real interactions, or with a folder that has it")
    flags.DEFINE_float("seconds", 20.0, "time for repeating each measurement", lower_bound=0.0)
    flags.DEFINE_bool("torch", True, "time the eager PyTorch step too (needs torch)")
    flags.DEFINE_enum("worker", "", ("", "jax", "torch"), "used by the program itself: measure one side of one shape")
    cli.run(main)
