"""Several processes, on one host or many, as one run: joining, telling who is missing, noticing who is lost."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from sea_jax.config import Config
from sea_jax.errors import SeaError

GOODBYE = b"."


def join(config: Config, lost: Callable[[str], None]) -> Callable[[], None]:
    """Makes this process one of the run's, before JAX touches a device.

    With --num_processes the processes first call their names at the coordinator's address, so that one that never
    comes is named, and keep those connections, so that one that dies is noticed at once. Without, JAX finds the
    other processes itself on a TPU pod slice and under SLURM's srun; one process alone has nothing to join.

    Args:
      config: coordinator_address, num_processes, process_id, join_seconds.
      lost: called, in a thread of its own, with a sentence if another process ends before its work is done.
    Returns: a function to call when this process has done its work.
    Raises: SeaError if the settings contradict each other, or a process does not come in time.
    """
    if not config.num_processes:
        if config.coordinator_address or config.process_id >= 0:
            raise SeaError("--coordinator_address, --num_processes and --process_id go together; give all three.")
        if _cluster_has_several():
            jax.distributed.initialize()
        return lambda: None
    if not 0 <= config.process_id < config.num_processes:
        raise SeaError(f"--process_id={config.process_id} must be from 0 to {config.num_processes - 1}.")
    address, count, number = config.coordinator_address, config.num_processes, config.process_id
    connections = roll_call(address, count, number, config.join_seconds)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, number)
    for number, connection in connections.items():
        threading.Thread(target=_watch, args=(number, connection, lost), daemon=True).start()

    def leave():
        for connection in connections.values():
            with contextlib.suppress(OSError):  # a process that has left already
                connection.sendall(GOODBYE)

    return leave


def _cluster_has_several() -> bool:
    workers = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 or "," in workers


def roll_call(address: str, count: int, number: int, seconds: float) -> dict[int, socket.socket]:
    """Waits until all processes are there: 0 listens at the address, the others tell it their number.

    Args:
      address: host:port of process 0.
      count: number of processes.
      number: of this one.
      seconds: to wait at most.
    Returns: the open connection to each process (of process 0), or to process 0 (of the others).
    Raises: SeaError naming the processes that did not come.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise SeaError(f"--coordinator_address={address} must be host:port of process 0.")
    deadline = time.monotonic() + seconds
    if number == 0:
        return _call(int(port), count, deadline, seconds)
    return {0: _answer(host, int(port), number, deadline, seconds)}


def _call(port: int, count: int, deadline: float, seconds: float) -> dict[int, socket.socket]:
    present = {}
    try:
        with socket.create_server(("", port)) as server:
            while len(present) < count - 1:
                server.settimeout(_left(deadline))
                number, connection = _hear(server, deadline)
                if not 0 < number < count or number in present:
                    connection.close()
                    raise SeaError(f"an unexpected process {number} of {count} joined; give each its own --process_id.")
                present[number] = connection
    except BaseException as error:
        for connection in present.values():
            connection.close()
        if not isinstance(error, TimeoutError):
            raise
        missing = ", ".join(str(n) for n in range(1, count) if n not in present)
        raise SeaError(
            f"process {missing} of {count} did not join within {seconds:g} s; start it, or look at its messages."
        ) from None
    for connection in present.values():
        connection.sendall(GOODBYE)
        connection.settimeout(None)
    return present


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


def _hear(server: socket.socket, deadline: float) -> tuple[int, socket.socket]:
    connection, _ = server.accept()
    try:
        connection.settimeout(_left(deadline))
        (number,) = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))
    except struct.error:
        number = -1  # it closed without a word
    return number, connection


def _answer(host: str, port: int, number: int, deadline: float, seconds: float) -> socket.socket:
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=_left(deadline))
        except OSError:
            connection = None  # process 0 does not listen yet
        if connection:
            try:
                connection.sendall(struct.pack("!i", number))
                connection.settimeout(_left(deadline))
                if connection.recv(1) == GOODBYE:
                    connection.settimeout(None)
                    return connection
            except OSError:
                pass
            connection.close()
        if time.monotonic() >= deadline:
            raise SeaError(
                f"process 0 did not complete the run at --coordinator_address={host}:{port} within {seconds:g} s; "
                "start it, or look at its messages."
            )
        time.sleep(0.2)


def _watch(number: int, connection: socket.socket, lost: Callable[[str], None]) -> None:
    try:
        ended_well = connection.recv(1) == GOODBYE
    except OSError:
        ended_well = False
    if not ended_well:
        lost(f"process {number} ended before the run did; start all processes again, the run resumes.")


def is_first() -> bool:
    """Whether this process writes the logs."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Whether the run has one process."""
    return jax.process_count() == 1


def first_does(work: Callable[[], None]) -> None:
    """Does `work` in process 0 while the others wait; an error there ends all."""
    if jax.process_count() == 1:
        return work()
    error = None
    if is_first():
        try:
            work()
        except (SeaError, OSError) as raised:
            error = raised
    failed = multihost_utils.broadcast_one_to_all(np.asarray(error is not None))
    if error is not None:
        raise error
    if failed:
        raise SeaError("process 0 could not go on; see its message.")
    return None


def all_rows(rows) -> np.ndarray:
    """The rows of all processes, `[local devices, ...] -> [devices, ...]`, on the host."""
    if jax.process_count() == 1:
        return np.asarray(rows)
    return np.asarray(multihost_utils.process_allgather(rows, tiled=True))
