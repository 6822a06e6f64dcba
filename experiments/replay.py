"""Replays a recorded trajectory, of the released SEA or of a model of MMRec, through the functions that training uses.

`python experiments/replay.py --trajectory=FILE.npz` prints one JSON object with the worst deviation of each kind,
as a fraction of its tolerance, and exits 1 if any tolerance is exceeded.
"""

import json

from absl import flags

from sea_jax import cli, replaying
from sea_jax.training import platform


def main(argv: list[str]) -> int:
    del argv
    arrays = replaying.read(flags.FLAGS.trajectory)
    config = replaying.config_of(arrays, **{name: flags.FLAGS[name].value for name in replaying.HOW})
    platform.prepare_platform(config)
    worst = replaying.deviations(arrays, replaying.replay(arrays, config))
    passed = all(fraction <= 1 for fraction in worst.values())
    print(json.dumps({"passed": passed, "worst_fraction_of_tolerance": worst}))
    return 0 if passed else 1


if __name__ == "__main__":
    flags.DEFINE_string("trajectory", None, "the recorded trajectory, an npz file", required=True)
    cli.define_config_flags(replaying.HOW)
    cli.run(main)
