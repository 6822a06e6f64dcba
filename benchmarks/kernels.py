"""What a GPU or TPU would be given to run, on a machine without one: `python benchmarks/kernels.py --target=h200`.

Compiles an epoch and a ranking for that device, as XLA would there, and prints the memory and, for a GPU, how many
kernels a round of each loop starts. Nothing is run, so nothing is timed; but a step of many small kernels cannot take
less time than it takes to start them. Products are not tuned and sorts not the fastest, as XLA tries those on a device.

The compiler for the target has to be installed: `pip install "jax[cuda12]"` for h200, `pip install libtpu` for v5e.
"""

import dataclasses
import json
import os
import re
import time
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags
from jax.experimental import topologies

from benchmarks import shapes
from sea_jax import cli, files
from sea_jax.training import loop, parallel

# What XLA's compiler asks of a GPU; the vendor's figures.
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: 4800000000000 l2_cache_size: 52428800 device_memory_size: 151397597184
  cuda_compute_capability { major: 9 }
  device_vendor: "NVIDIA Corporation" name: "NVIDIA H200" device_address_bits: 64
  driver_version: "12.9.0" runtime_version: "12.9.0" compile_time_toolkit_version: "12.9.0" dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H200"
"""
TARGETS = {
    "h200": {"platform": "cuda", "target_config": H200, "topology": "1x1x1"},
    "v5e": {"platform": "tpu", "topology_name": "v5e:2x2", "chips_per_host_bounds": (2, 2, 1)},
}

# Operations of a compiled program that start no kernel of their own.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "after-all", "partition-id"}
OPERATION = re.compile(r"^ +(?:ROOT )?%?[\w.-]+ = .*?[\])}] ([a-z][\w-]*)\(")


class Loop(NamedTuple):
    """A loop of a compiled program, or its main part.

    name: the scope it was traced in. rounds: of all loops around it together. kernels: of one round, without those of
    the loops within it.
    """

    name: str
    rounds: int
    kernels: int


def computations(text: str) -> dict[str, list[str]]:
    """Lines of each computation of a compiled program's text, by name; the main one is ENTRY."""
    found, current = {}, []
    for line in text.splitlines():
        if line.endswith("{") and line.startswith(("%", "ENTRY")):
            current = found.setdefault(line.split()[0].lstrip("%"), [])
        else:
            current.append(line)
    return found


def loops(text: str) -> list[Loop]:
    """The main part of a compiled program, then its loops from the outside in."""
    bodies = computations(text)

    def visit(name, scope, rounds):
        kernels, within = 0, []
        for line in bodies[name]:
            operation = OPERATION.match(line)
            operation = operation and operation.group(1)
            if operation == "while":
                times = int(re.search(r'"known_trip_count":\{"n":"(\d+)"', line).group(1))
                within += visit(_field(line, r"body=%?([\w.-]+)"), _field(line, r'op_name="([^"]*)"'), rounds * times)
            elif operation and operation not in FREE and not operation.endswith("-done"):
                kernels += 1
        return [Loop(scope, rounds, kernels), *within]

    return visit("ENTRY", "main", 1)


def _field(line, pattern):
    return re.search(pattern, line).group(1)


def compile_for(target: str, function, arguments):
    """A jitted function's program for one device of the target, and the seconds that compiling it took."""
    device = topologies.get_topology_desc(**TARGETS[target]).devices[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    arguments = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), arguments)
    began = time.perf_counter()
    return function.lower(*arguments).compile(), time.perf_counter() - began


def measure(bundle, target: str, precision: str) -> dict:
    """Loops, memory and seconds of compiling of an epoch's and a ranking's program."""
    config = shapes.settings(precision, propagation="jraph", club_fit="plain")
    with jax.default_device(jax.devices("cpu")[0]):
        run = loop.prepare(bundle, config)
    if target == "h200":
        config = dataclasses.replace(config, club_fit="kernel")
    programs = parallel.make_programs(run.model, config, run.divided, run.layout)
    state, found = run.progress.state, {}
    for name, function, arguments in (
        ("epoch", programs.train_epoch, (state, run.data)),
        ("ranking", programs.rank, (state.params, run.data, run.ranking)),
    ):
        compiled, seconds = compile_for(target, function, arguments)
        memory = compiled.memory_analysis()
        found[name] = {
            "compile_s": seconds,
            "arguments_mb": memory.argument_size_in_bytes / 1e6,
            "temporary_mb": memory.temp_size_in_bytes / 1e6,
            # A TPU's program does not tell how often its loops run.
            "loops": [] if target == "v5e" else [one._asdict() for one in loops(compiled.as_text())],
        }
    return found


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    results = {}
    for name in values.shapes:
        results[name] = measure(shapes.make(name, values.interactions), values.target, values.precision)
        for part, found in results[name].items():
            print(
                f"{name} {part}, compiled for {values.target} in {found['compile_s']:.0f} s: "
                f"{found['arguments_mb']:.0f} MB of arguments, {found['temporary_mb']:.0f} MB of temporaries"
            )
            for one in found["loops"]:
                print(f"{one['rounds']:8d} rounds of {one['kernels']:3d} kernels: {one['name']}", flush=True)
    if values.json:
        files.write_text(Path(values.json), json.dumps({values.target: results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    # Both compilers look for their device when JAX starts, and are told here that there is none.
    os.environ |= {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "TPU_SKIP_MDS_QUERY": "1"}
    cli.define_config_flags(["precision"])
    flags.DEFINE_enum("target", "h200", list(TARGETS), "the device to compile for")
    flags.DEFINE_list("shapes", ["baby"], f"which of {', '.join(shapes.SHAPES)}")
    flags.DEFINE_string("interactions", "", "folder with NAME.inter of real interactions, or with a folder that has it")
    flags.DEFINE_string("json", "", "file the results are written to")
    cli.run(main)
