"""Starts and ends the service: what is served, from which files, on which port."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax.adjacency import joined_units
from sea_jax.errors import SeaError, require
from sea_jax.recommender import Recommender
from sea_jax.serving.answers import Answers
from sea_jax.serving.catalogue import pictures
from sea_jax.training import workdir

TOKEN = "SEA_JAX_TOKEN"  # of the environment
STOP_SECONDS = 10  # for answers under way when it is told to stop
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def answers(recommender: str = "", run: str = "", data_dir: str = "", image_root: str = "") -> Answers:
    """What a service says from a recommender's file, or from a run's folder.

    Args:
      recommender: a file of `Recommender.save`; or else
      run: a run's folder.
      data_dir: its bundle, which names the pictures and holds the features that diverse lists go by (else they go by the
        model's vectors); that of the run without.
      image_root: the folder that holds the pictures; none are shown without.
    Raises: SeaError for files that are not there or damaged.
    """
    if bool(recommender) == bool(run):
        raise SeaError("name either --recommender, a file, or --workdir, the folder of a run.")
    bundle = data_dir
    if run:
        if not (Path(run) / workdir.RECOMMENDER).is_file():
            workdir.record_path(Path(run))  # says so where there is no run at all, or several
            raise SeaError(f"--workdir={run} has no {workdir.RECOMMENDER} yet; let training come to its end.")
        if not bundle and (Path(run) / workdir.RECORD).is_file():
            bundle = workdir.read_origin(Path(run))[0]["data_dir"]
    made = Recommender.load(recommender or Path(run) / workdir.RECOMMENDER)
    if image_root and not bundle:
        raise SeaError("--image_root needs --data_dir, the bundle that names the pictures.")
    known = pictures(bundle, image_root, made.item_ids) if image_root else None
    return Answers(made, known, content_of(bundle, made) if bundle else None)


def content_of(bundle: str, made: Recommender) -> Callable[[], np.ndarray | None]:
    """Gives the rows by which the bundle's features compare items; the model's own where it is not there or of other items."""

    def load():
        if not (Path(bundle) / "manifest.json").is_file():
            return made.item_vectors
        found = bundles.load(bundle)
        ids = np.arange(found.num_items) if found.item_ids is None else found.item_ids
        same = found.features and np.array_equal(ids, made.item_ids)
        return joined_units(found.features) if same else made.item_vectors

    return load


def serve(said: Answers, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves until SIGTERM or SIGINT; answers under way are finished first.

    On loopback it answers only to loopback's names, or a page of another site, whose name it had point here, could read it.

    Raises: SeaError where Starlette or uvicorn is missing, the token cannot be, or the port is taken.
    """
    uvicorn = require("uvicorn", "serve", "The service")
    require("starlette", "serve", "The service")
    from sea_jax.serving.app import application

    hosts = (*LOOPBACK, host) if host in LOOPBACK else ()
    app = application(said, token(), workers=os.cpu_count() or 1, hosts=hosts)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise SeaError(f"cannot listen on {host}, port {port} ({error.strerror.lower()}); name another.") from error
    if is_open(host):
        print(f"anybody who reaches {host} may ask; set {TOKEN} to a secret.", file=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn, when it has stopped, sends itself the signal once more
        signal.signal(number, lambda *_: None)
    print(f"serving on {address(host, listening.getsockname()[1])}; Ctrl-C stops", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def token() -> str:
    """The token that the environment names, "" without; raises SeaError for one that nobody could send."""
    found = os.environ.get(TOKEN)
    if found is None:
        return ""
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        raise SeaError(f"{TOKEN} must be letters, digits and signs of ASCII without blanks; unset it to ask for none.")
    return found


def address(host: str, port: int) -> str:
    """The address to open in a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_open(host: str) -> bool:
    """Whether others than this machine may ask without a token."""
    return host not in LOOPBACK and not token()
