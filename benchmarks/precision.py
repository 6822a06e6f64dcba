"""What rounding in matrix products does to a training run: `python benchmarks/precision.py --flagfile=tiktok_bpr.flags`.

On a CPU `--precision=tf32` changes nothing and `bfloat16` only stores the features so. This program trains with the
operands of every matrix product, forward and backward, rounded as an accelerator rounds them (products are summed in
float32, as there), and prints by seed the result and how far the first step's loss and gradient are off.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags
from jax.extend.core import ClosedJaxpr, Literal

from benchmarks import parts
from sea_jax import bundle as bundles
from sea_jax import cli, files
from sea_jax.training import loop, platform
from sea_jax.training.step import loss_and_gradient

MANTISSA_BITS = {"float32": None, "tf32": 10, "bfloat16": 7}  # explicit ones; all three have 8 bits of exponent


def rounded_products(function, mantissa_bits: int):
    """`function` with both float32 operands of every matrix product rounded to `mantissa_bits`.

    The rounding is put into the traced program, after differentiation, so that it has no gradient of its own.
    """

    def call(*arguments):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        return jax.tree.unflatten(
            jax.tree.structure(shape), evaluate(closed, jax.tree.leaves(arguments), mantissa_bits)
        )

    return call


def evaluate(closed: ClosedJaxpr, inputs: list, mantissa_bits: int) -> list:
    """The outputs of a traced program with its products rounded; programs within it (loops) are rounded too."""
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *inputs], strict=True))

    def rounded(x):
        return jax.lax.reduce_precision(x, 8, mantissa_bits) if x.dtype == jnp.float32 else x

    def within(param):
        if type(param) is tuple:
            return tuple(map(within, param))
        if not isinstance(param, ClosedJaxpr):
            return param
        return jax.make_jaxpr(lambda *xs: evaluate(param, xs, mantissa_bits))(*param.in_avals)

    for equation in jaxpr.eqns:
        operands = [x.val if isinstance(x, Literal) else values[x] for x in equation.invars]
        if equation.primitive.name == "dot_general":
            operands = [rounded(x) for x in operands]
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if isinstance(inner, ClosedJaxpr) and equation.primitive.name != "scan":
            found = evaluate(inner, operands, mantissa_bits)
        else:
            found = equation.primitive.bind(*operands, **{name: within(x) for name, x in equation.params.items()})
        found = found if equation.primitive.multiple_results else [found]
        values |= dict(zip(equation.outvars, found, strict=True))
    return [x.val if isinstance(x, Literal) else values[x] for x in jaxpr.outvars]


def with_rounding(run: loop.Training, mantissa_bits: int | None) -> loop.Training:
    """The run with its programs rounded; the programs of the run itself for None."""
    if mantissa_bits is None:
        return run
    epoch, rank = (rounded_products(f, mantissa_bits) for f in (run.programs.train_epoch, run.programs.rank))
    return run._replace(
        programs=run.programs._replace(train_epoch=jax.jit(epoch, donate_argnums=0), rank=jax.jit(rank))
    )


def first_gradient(run: loop.Training, mantissa_bits: int | None) -> tuple:
    """Loss and gradient of a first step."""

    def function(state, data, batch, draws):
        (total, _), gradient = loss_and_gradient(state, data, batch, draws, run.model, run.config)
        return total, gradient

    function = function if mantissa_bits is None else rounded_products(function, mantissa_bits)
    return jax.jit(function)(run.progress.state, run.data, *parts.first_batch(run.model, run.config, run.data))


def norm(tree) -> float:
    """Length of all numbers of the tree as one vector."""
    return float(jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree))))


def measure(bundle, config) -> dict:
    """One run to its end."""
    bits = MANTISSA_BITS[config.precision]
    # The settings of float32: what is measured is the rounding alone.
    run = loop.prepare(bundle, dataclasses.replace(config, precision="float32"))
    (exact, exact_gradient), (total, gradient) = first_gradient(run, None), first_gradient(run, bits)
    difference = jax.tree.map(jnp.subtract, gradient, exact_gradient)
    result = {
        "first_loss_off_by": abs(float(total - exact)) / abs(float(exact)),
        "first_gradient_off_by": norm(difference) / norm(exact_gradient),
    }
    run = loop.fit(with_rounding(run, bits), report=lambda record: print(json.dumps(record), flush=True))
    return result | {"best_epoch": int(run.progress.best_epoch)} | loop.measure(run, loop.best(run.progress)[0])


def main(argv: list[str]) -> int:
    del argv
    config = cli.config_from_flags()
    platform.prepare_platform(config)
    bundle = bundles.load(config.data_dir, modalities=config.modalities)
    results = {}
    for seed in cli.FLAGS.seeds:
        results[seed] = measure(bundle, dataclasses.replace(config, seed=int(seed)))
        if cli.FLAGS.json:
            files.write_text(Path(cli.FLAGS.json), json.dumps({config.precision: results}, indent=1) + "\n")
    for seed, found in results.items():
        print(
            f"{config.precision} seed {seed}: first loss off by {found['first_loss_off_by']:.1e}, gradient by "
            f"{found['first_gradient_off_by']:.1e}; best epoch {found['best_epoch']}, "
            f"valid {config.monitor} {found['valid'][config.monitor]:.4f}, test {found['test'][config.monitor]:.4f}"
        )
    return 0


if __name__ == "__main__":
    cli.define_config_flags()
    flags.DEFINE_list("seeds", ["999", "1", "2"], "one run each")
    flags.DEFINE_string("json", "", "file the results are written to")
    cli.run(main)
