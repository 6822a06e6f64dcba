"""Process-wide choices that settings ask for, and what the process spent on compiling."""

import os

import jax

from sea_jax.config import Config

_compiled: list[float] = []


def compile_seconds() -> float:
    """Seconds that XLA has spent on compiling in this process since the first `prepare_platform`."""
    return sum(_compiled)


def _on_duration(event: str, seconds: float, **_) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(seconds)


_listening: list[bool] = []


def prepare_platform(config: Config) -> None:
    """What the settings ask of the whole process; before the first computation, harmless when repeated."""
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(_on_duration)
        _listening.append(True)
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        # Emulated devices: XLA's CPU backend (JAX 0.10.2) would run independent collectives at once, and crash.
        _add_xla_flag("--xla_cpu_enable_concurrency_optimized_scheduler=false")
    if config.deterministic:
        _add_xla_flag("--xla_gpu_deterministic_ops=true")
    if config.compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.abspath(config.compilation_cache_dir))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _add_xla_flag(flag: str) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags.split():
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()
