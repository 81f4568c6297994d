"""Several processes that train as one: how they find each other, and the tasks of the first one alone.

Every process runs the same program on the same global arrays. Only the first one (`is_main`) writes logs and reads the
run's folder; it broadcasts each decision to the others, so that all take the same steps.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from fer_jax.errors import InputError, first_line

# Seconds without a heartbeat after which a process counts as dead and the others end; and seconds for which an ending
# process waits for the others. The defaults (100 and 300) would keep the devices for minutes after a crash.
_HEARTBEAT_TIMEOUT = 30
_SHUTDOWN_TIMEOUT = 30
_LONGEST_WAIT = 3600


def initialize(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Join the processes that train together; do nothing for a single process.

    Without arguments the environment decides (`cluster_of`), and JAX finds the others. Call it before anything
    touches a device.

    Args:
      coordinator: `host:port` of process 0, the same for all.
      num_processes: how many there are; 1 overrules the environment.
      process_id: which one this is, from 0.

    Raises:
      InputError: for arguments that do not go together, or processes that do not find each other.
    """
    given = (coordinator, num_processes, process_id)
    nothing_given = given == (None, None, None)
    if num_processes == 1 or (nothing_given and not (cluster := cluster_of(os.environ))):
        return
    if not nothing_given and not (
        coordinator is not None
        and num_processes is not None
        and process_id is not None
        and ":" in coordinator
        and 0 <= process_id < num_processes
    ):
        raise InputError(
            f"--coordinator={coordinator} --num-processes={num_processes} --process-id={process_id}: expected "
            "HOST:PORT of process 0, the number of processes, and which of them this is, from 0"
        )
    if nothing_given:
        # At once, because a process that is alone after all would wait for minutes in silence.
        told = f"waiting for the other processes of {cluster}; to train in this one alone, give --num-processes=1"
        print(told, file=sys.stderr, flush=True)
    # For collectives between processes on CPU; without effect on other devices.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            *given, heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT, shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes that train together do not find each other ({first_line(error)}); say where they are by "
            "--coordinator=HOST:PORT --num-processes=N --process-id=I, or train alone by --num-processes=1"
        ) from error


def cluster_of(environment: Mapping[str, str]) -> str:
    """Return what of several processes `environment` describes this one as a part of; "" if it is alone.

    Such are a TPU pod, a step of Slurm's srun, an indexed job of Kubernetes. Only variables count, so that a computer
    without a cluster never waits for one. JAX sets TPU_SKIP_MDS_QUERY where there is no TPU.
    """
    if hosts := environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES", "")):
        several = "," in hosts or int(environment.get("MEGASCALE_NUM_SLICES", "1")) > 1
        return f"the TPU pod of {hosts}" if several else ""
    if "SLURM_STEP_NODELIST" in environment and "SLURM_PROCID" in environment:
        tasks = environment.get("SLURM_NTASKS", "1")
        step = f"Slurm's step on {environment['SLURM_STEP_NODELIST']} (SLURM_NTASKS={tasks})"
        return step if int(tasks) > 1 else ""
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "this Kubernetes job (JOB_COMPLETION_INDEX is set)"
    tpu_wanted = environment.get("JAX_PLATFORMS", "tpu").startswith("tpu")
    if tpu_wanted and "TPU_SKIP_MDS_QUERY" not in environment and importlib.util.find_spec("libtpu") is not None:
        return "the TPU slice that this machine belongs to"
    return ""


def is_main() -> bool:
    """Return whether this process is the one that writes."""
    return jax.process_index() == 0


def on_main(action: Callable[[], int]) -> int:
    """Run `action` in the main process and return its result in every process.

    Raises what `action` raises. An `InputError` is raised in all processes; the main one has its message.
    """
    if jax.process_count() == 1:
        return action()
    value, error = 0, None
    if is_main():
        try:
            value = action()
        except InputError as found:
            error = found
    failed, value = multihost_utils.broadcast_one_to_all(np.array([error is not None, value], np.int32))
    if error:
        raise error
    if failed:
        raise InputError("process 0 cannot continue; its own message says why")
    return int(value)


def text_from_main(action: Callable[[], str], moment: str) -> str:
    """Run `action`, which returns a text, in the main process, and return the text in every process.

    Errors are as in `on_main`. `action` may be slow: the others wait at the barrier `moment` of `wait_for_all`.
    """
    if jax.process_count() == 1:
        return action()
    text, error = b"", None
    if is_main():
        try:
            text = action().encode()
        except InputError as found:
            error = found
    wait_for_all(moment)

    def length() -> int:
        if error:
            raise error
        return len(text)

    padded = np.frombuffer(text.ljust(on_main(length)), np.uint8)
    return multihost_utils.broadcast_one_to_all(padded).tobytes().decode()


def wait_for_all(moment: str) -> None:
    """Wait at a barrier until every process is there; use each name `moment` once.

    Use it after work whose duration differs between processes, such as reading or compiling: collectives on CPU wait
    for only half a minute.
    """
    if jax.process_count() > 1:
        # Here, because Orbax takes a second to import, which a single process does not need.
        import orbax.checkpoint as ocp

        ocp.multihost.get_barrier_sync_fn()(key=f"fer_jax {moment}", timeout_ms=1000 * _LONGEST_WAIT)


def check_equal(text: str, what: str) -> None:
    """Raise `InputError` in every process unless `text` is the same in all; `what` names it in the message."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    others = [i for i, other in enumerate(digests) if not np.array_equal(other, digests[0])]
    if others:
        numbers = ", ".join(map(str, others))
        raise InputError(f"process {numbers} has not the same {what} as process 0; give every process the same command")
