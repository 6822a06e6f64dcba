"""Serves recommendations with a page: `python experiments/serve.py --workdir=RUN --port=8000`, then open http://127.0.0.1:8000/.

GET /recommend?user=ID&k=10 and the other addresses answer JSON: docs/serving.md. It listens to this machine alone unless
--host says otherwise; with the environment variable SEA_JAX_TOKEN set, it answers only who sends that token.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: threads of its own would stand in each other's way

from absl import flags

from sea_jax import cli
from sea_jax.serving import server


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    said = server.answers(values.recommender, values.workdir, values.data_dir, values.image_root)
    server.serve(said, values.host, values.port)
    print("stopped")
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("recommender", "", "file of a recommender; or")
    flags.DEFINE_string("workdir", "", "folder of a run")
    flags.DEFINE_string("data_dir", "", "folder of the bundle that names the pictures; the run's without")
    flags.DEFINE_string("image_root", "", "folder with the pictures; none are shown without")
    flags.DEFINE_string("host", "127.0.0.1", "address to listen on; 0.0.0.0 for all of this machine's")
    flags.DEFINE_integer("port", 8000, "port to listen on; 0 for any that is free", lower_bound=0, upper_bound=65535)
    cli.run(main)
