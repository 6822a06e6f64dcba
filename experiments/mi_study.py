"""Every estimator of mutual information on data whose mutual information is known: `python experiments/mi_study.py`.

y = rho x + sqrt(1 - rho^2) e in d independent pairs, so that I(x; y) = - d/2 log(1 - rho^2); cubes of y, which have
the same mutual information, go into a table of their own. Conditionals and critics are fitted on a fresh batch in
each step, and every estimator is evaluated on a sample that no fit has seen.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from tqdm import tqdm

from sea_jax import cli, files, losses
from sea_jax.fitting import fit
from sea_jax.models.conditionals import GaussianConditional, LinearGaussianConditional
from sea_jax.models.critics import QuadraticCritic, SeparableCritic, joint_and_independent

COLUMNS = ("estimator", "side", "conditional", "dimension", "true_mi", "mean", "std", "runs")
STEPS, QUICK_STEPS = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0), (0.0, 4.0, 10.0)  # nats
MOST_PER_PAIR = 2.0  # nats in one pair of coordinates
SAMPLES = 512  # in a batch of the fit, and in the sample that is evaluated
FIT_STEPS, QUICK_FIT_STEPS = 500, 250
UPPER = ("club_all_pairs", "club_sampled", "l1out", "vub")
UNNORMALISED = ("nwj", "tuba")


def side_of(estimator: str, true_mi: float, samples: int) -> str:
    """upper or lower, if the estimator bounds the mutual information in expectation over such samples, or neither.

    Samples of n rows miss the tail of E[exp f] where exp(2 I) exceeds 0.01 n (n - 1): NWJ and TUBA then stay far
    below in most runs and exceed the truth by much in few, so that no mean of theirs shows a bound.
    """
    if estimator in UPPER:
        return "upper"
    if estimator in UNNORMALISED and np.exp(2 * true_mi) > 0.01 * samples * (samples - 1):
        return "neither"
    return "lower" if estimator in ("info_nce", *UNNORMALISED) else "neither"


def draw(key, rho, count: int, dimension: int, cubes: bool):
    """A sample of (x, y), or of (x, y^3) in units of its standard deviation."""
    x, noise = jax.random.normal(key, (2, count, dimension))
    y = rho * x + jnp.sqrt(1 - rho**2) * noise
    return x, y**3 / np.sqrt(15) if cubes else y


def exact_conditional(x, rho):
    """Mean and log variance of y given x."""
    return rho * x, jnp.broadcast_to(jnp.log(1 - rho**2), x.shape)


def exact_table(x, y, rho):
    """log p(y_j | x_i) - log p(y_j), the best critic."""
    precision = 1 / (1 - rho**2)
    constant = -x.shape[1] * jnp.log(1 - rho**2) / 2 - jnp.sum((rho * x) ** 2, axis=1)[:, None] * precision / 2
    return precision * rho * x @ y.T + constant + jnp.sum(y**2, axis=1) * (1 - precision) / 2


def fitted(module, key, loss, sample, steps: int):
    """A module fitted to minimise loss(the function that it is, x, y), on a fresh sample(key) = (x, y) in each step.

    Returns: the function it has become.
    """
    keys = jax.random.split(key, steps + 1)
    x, y = sample(keys[0])
    linear = isinstance(module, LinearGaussianConditional | QuadraticCritic)
    params = module.init(keys[0], *((x, y) if isinstance(module, QuadraticCritic | SeparableCritic) else (x,)))[
        "params"
    ]
    optimiser = optax.adam(optax.cosine_decay_schedule(0.1 if linear else 5e-3, steps))

    def objective(params, key):
        return loss(partial(module.apply, {"params": params}), *sample(key))

    params, _, _ = fit(objective, params, optimiser, optimiser.init(params), steps, inputs=keys[1:])
    return partial(module.apply, {"params": params})


def mean(pair):
    """The mean of a loss over rows."""
    return pair[0] / pair[1]


def upper_estimates(key, conditional, y) -> dict:
    """Every estimate that needs q(y | x), given its mean and log variance at each x."""
    negative = jax.random.permutation(key, y)
    return {
        "club_all_pairs": mean(losses.club_all_pairs(*conditional, y)),
        "club_sampled": mean(losses.club_sampled(*conditional, y, negative)),
        "club_released": losses.club_released(*conditional, y, negative),
        "l1out": mean(losses.l1out(*conditional, y)),
        "vub": mean(losses.vub(*conditional)),
    }


def lower_estimates(table, log_partition=0.0) -> dict:
    """Every estimate that needs a critic, given its table; log_partition is of E[exp f] as the fit found it."""
    joint, independent = joint_and_independent(table)
    shifted = joint - log_partition, independent - log_partition
    return {
        "nwj": losses.nwj(shifted[0] + 1, shifted[1] + 1),
        "tuba": losses.tuba(joint, independent, log_partition),
        "donsker_varadhan": losses.donsker_varadhan(joint, independent),
        "mine": losses.mine(joint, independent, log_partition)[0],
        "smile": losses.smile(*shifted),
    }


def exact_estimates(key, rho, dimension: int) -> dict:
    """One run of every estimator with the exact conditional, or the critic made from it."""
    sample_key, negative_key = jax.random.split(key)
    x, y = draw(sample_key, rho, SAMPLES, dimension, cubes=False)
    table = exact_table(x, y, rho)
    found = upper_estimates(negative_key, exact_conditional(x, rho), y)
    return found | lower_estimates(table) | {"info_nce": losses.info_nce(table)}


def fitted_estimates(key, rho, dimension: int, cubes: bool, steps: int) -> dict:
    """One run of every estimator with conditionals and critics that are fitted."""
    keys = jax.random.split(key, 7)
    sample = partial(draw, rho=rho, count=SAMPLES, dimension=dimension, cubes=cubes)
    x, y = sample(keys[0])

    def conditional(key, module):
        return fitted(module, key, lambda q, x, y: mean(losses.gaussian_nll(*q(x), y)), sample, steps)(x)

    def critic(key, bound):
        module = SeparableCritic() if cubes else QuadraticCritic()
        return fitted(module, key, lambda f, x, y: -bound(f(x, y)), sample, steps)

    module = GaussianConditional(dimension, hidden=64) if cubes else LinearGaussianConditional(dimension)
    found = upper_estimates(keys[1], conditional(keys[2], module), y)
    if cubes:
        del found["vub"]  # its marginal is no standard normal here
    found["club_sea_q"] = mean(losses.club_all_pairs(*conditional(keys[3], GaussianConditional(dimension)), y))
    found["info_nce"] = losses.info_nce(critic(keys[4], losses.info_nce)(x, y))
    # MINE's gradient with an average of one batch is Donsker-Varadhan's own.
    score = critic(keys[5], lambda table: losses.donsker_varadhan(*joint_and_independent(table)))
    _, independent = joint_and_independent(score(*sample(keys[6])))
    log_partition = jax.nn.logsumexp(independent) - jnp.log(independent.size)
    return found | lower_estimates(score(x, y), log_partition)


@partial(jax.jit, static_argnames=("kind", "dimension", "runs", "steps"))
def all_runs(key, rho, kind: str, dimension: int, runs: int, steps: int) -> dict:
    """By estimator, its value in each run, (runs,)."""
    keys = jax.random.split(key, runs)
    if kind == "exact":
        return jax.lax.map(lambda k: exact_estimates(k, rho, dimension), keys)
    return jax.lax.map(lambda k: fitted_estimates(k, rho, dimension, kind == "cubes", steps), keys)


def settings_of(quick: bool) -> list[tuple[int, float]]:
    """(dimension, true mutual information) of each setting."""
    dimensions, steps = ((2, 8), QUICK_STEPS) if quick else ((2, 4, 8, 16, 32), STEPS)
    return [(d, true_mi) for d in dimensions for true_mi in steps if true_mi <= MOST_PER_PAIR * d]


def rows_of(kind: str, settings, runs: int, seed: int, steps: int = FIT_STEPS, report=lambda: None) -> list[dict]:
    """One row per estimator and setting.

    Args:
      kind: exact or fitted on Gaussians, or cubes (fitted).
      settings: from `settings_of`.
      runs: of each.
      seed: of every random number.
      steps: of each fit.
      report: called after each setting.
    """
    rows = []
    for dimension, true_mi in settings:
        rho = np.sqrt(1 - np.exp(-2 * true_mi / dimension))
        key = jax.random.fold_in(jax.random.key(seed), 100 * dimension + int(true_mi))
        for name, values in jax.device_get(all_runs(key, rho, kind, dimension, runs, steps)).items():
            # With a conditional that is not the true one, nothing says on which side CLUB or L1Out lies.
            side = "neither" if kind == "cubes" and name in UPPER else side_of(name, true_mi, SAMPLES)
            how = "exact" if kind == "exact" else "fitted"
            found = (name, side, how, dimension, true_mi, float(values.mean()), float(values.std(ddof=1)), runs)
            rows.append(dict(zip(COLUMNS, found, strict=True)))
        report()
    return rows


def table_of(rows: list[dict]) -> str:
    """Bias, variance and mean squared error of each estimator, means over dimensions, by true mutual information."""
    lines = [f"{'estimator':18s}{'conditional':>12s}{'true':>6s}{'side':>9s}{'bias':>10s}{'variance':>12s}{'mse':>12s}"]
    groups = dict.fromkeys((row["estimator"], row["conditional"], row["true_mi"]) for row in rows)
    for group in sorted(groups):
        chosen = [row for row in rows if (row["estimator"], row["conditional"], row["true_mi"]) == group]
        bias = np.array([row["mean"] - row["true_mi"] for row in chosen])
        variance = np.array([row["std"] ** 2 for row in chosen])
        lines.append(
            f"{group[0]:18s}{group[1]:>12s}{group[2]:6.0f}{chosen[0]['side']:>9s}{bias.mean():10.3f}"
            f"{variance.mean():12.4f}{(bias**2 + variance).mean():12.4f}"
        )
    return "\n".join(lines)


def plot(path: Path, rows: list[dict]) -> None:
    """A panel per estimator: estimates with a band of one standard deviation against the true values in steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["estimator"] for row in rows))
    dimensions = sorted({row["dimension"] for row in rows})
    figure, panels = pyplot.subplots(3, -(-len(names) // 3), figsize=(13, 9), sharex=True, sharey=True)
    colours = dict(zip(dimensions, pyplot.cm.viridis(np.linspace(0, 0.85, len(dimensions))), strict=True))
    for panel, name in zip(panels.flat, names, strict=False):
        sides = {row["side"] for row in rows if row["estimator"] == name}
        panel.set_title(f"{name}\n({' / '.join(sorted(sides))})", fontsize=10)
        edges = np.append(np.array(STEPS) - 1, STEPS[-1] + 1)
        panel.stairs(STEPS, edges, color="black", linewidth=1.5, baseline=None)
        for dimension in dimensions:
            for how, style in (("exact", "-"), ("fitted", "--")):
                line = [
                    (row["true_mi"], row["mean"], row["std"])
                    for row in rows
                    if (row["estimator"], row["dimension"], row["conditional"]) == (name, dimension, how)
                ]
                if line:
                    true, value, spread = np.array(line).T
                    panel.plot(true, value, style, color=colours[dimension], marker=".", linewidth=1.2)
                    panel.fill_between(true, value - spread, value + spread, color=colours[dimension], alpha=0.15)
        panel.set_ylim(-1, 16)
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(names) :]:
        panel.axis("off")
    legend = [pyplot.Line2D([], [], color=colours[d], label=f"d = {d}") for d in dimensions]
    legend += [pyplot.Line2D([], [], color="grey", linestyle=s, label=n) for n, s in (("exact", "-"), ("fitted", "--"))]
    legend.append(pyplot.Line2D([], [], color="black", label="true"))
    figure.legend(handles=legend, loc="lower center", ncols=len(legend), frameon=False)
    figure.supxlabel("true mutual information (nats)", y=0.045)
    figure.supylabel("estimate (nats; cut at 16)")
    figure.tight_layout(rect=(0.01, 0.05, 1, 1))
    files.save_figure(figure, path)


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    output = files.folder(values.output)
    settings, steps = settings_of(values.quick), QUICK_FIT_STEPS if values.quick else FIT_STEPS
    runs = (20, 3) if values.quick else (100, 8)
    with tqdm(total=3 * len(settings), unit="setting", disable=None) as bar:
        rows = rows_of("exact", settings, runs[0], values.seed, steps, bar.update)
        rows += rows_of("fitted", settings, runs[1], values.seed, steps, bar.update)
        cubes = rows_of("cubes", settings, runs[1], values.seed, steps, bar.update)
    files.write_table(output / "mi_study.csv", COLUMNS, (row.values() for row in rows))
    files.write_table(output / "mi_study_cubes.csv", COLUMNS, (row.values() for row in cubes))
    plot(output / "mi_study.png", rows)
    print(f"correlated Gaussians, {SAMPLES} samples, means over d = {', '.join(str(d) for d in dict(settings))}")
    print(table_of(rows))
    print("\ntheir cubes")
    print(table_of(cubes))
    print(f"\nwrote {output / 'mi_study.csv'}, {output / 'mi_study_cubes.csv'} and {output / 'mi_study.png'}")
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "folder for the tables and the figure", required=True)
    flags.DEFINE_bool("quick", False, "fewer dimensions and runs, in under a minute")
    flags.DEFINE_integer("seed", 0, "seed of every random number", lower_bound=0, upper_bound=2**32 - 1)
    cli.run(main)
