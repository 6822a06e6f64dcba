"""What every program shares: flags made from Config, flagfiles looked up, errors in one sentence."""

import contextlib
import csv
import dataclasses
import os
import sys
import typing
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
from absl import app, flags, logging

from sea_jax.config import Config
from sea_jax.errors import SeaError

FLAGFILES = Path(__file__).parent / "flags"

with contextlib.suppress(flags.DuplicateFlagError):
    flags.DEFINE_bool("debug", False, "show the traceback of an error")


def define_config_flags(names: Iterable[str] | None = None) -> None:
    """Defines one flag per setting (or per setting named): type, default, limits and help from Config."""
    for field in dataclasses.fields(Config):
        if names is not None and field.name not in names:
            continue
        origin = typing.get_origin(field.type) or field.type
        if origin is tuple:
            flags.DEFINE_list(field.name, [str(value) for value in field.default], field.metadata["help"])
        elif origin is bool:
            flags.DEFINE_bool(field.name, field.default, field.metadata["help"])
        elif field.metadata["choices"]:
            flags.DEFINE_enum(field.name, field.default, field.metadata["choices"], field.metadata["help"])
        else:
            define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[origin]
            define(field.name, field.default, field.metadata["help"])


def help_text() -> str:
    """The program's purpose and its flags, one line each, with defaults."""
    main = sys.modules["__main__"]
    modules = flags.FLAGS.flags_by_module_dict().items()  # the program's own under its path; absl's are left out
    ours = [flag for name, of in modules if name == sys.argv[0] or name.startswith("experiments.") for flag in of]
    lines = [f"  {'--' + flag.name + '=' + _shown(flag.default):32s} {flag.help}" for flag in ours]
    return "\n".join(
        [(main.__doc__ or "").strip(), "", *lines, "  --flagfile=FILE reads flags from a file, one a line."]
    )


def _shown(default) -> str:
    return ",".join(default) if isinstance(default, list) else "" if default is None else str(default)


def config_from_flags() -> Config:
    """The Config that the flags describe; raises SeaError for impossible values."""
    values = {}
    for field in dataclasses.fields(Config):
        value = flags.FLAGS[field.name].value
        if typing.get_origin(field.type) is tuple:
            item = typing.get_args(field.type)[0]
            try:
                value = tuple(item(entry) for entry in value)
            except ValueError as error:
                raise SeaError(f"--{field.name}={','.join(value)} must be a list of {item.__name__}s.") from error
        values[field.name] = value
    return Config(**values)


def flag_lines(config: Config) -> str:
    """The settings as a flagfile that replays the run."""
    lines = []
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, bool):
            lines.append(f"--{name}" if value else f"--no{name}")
        else:
            lines.append(f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
    return "\n".join(lines) + "\n"


def config_from_dict(values: dict) -> Config:
    """A Config from a record of one (JSON makes lists of its tuples)."""
    known = {field.name for field in dataclasses.fields(Config)}
    unknown = set(values) - known
    if unknown:
        raise SeaError(f"the run's record has settings this version does not know: {', '.join(sorted(unknown))}.")
    return Config(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def find_flagfile(argument: str) -> str:
    """`--flagfile=name` with a name not in the working directory is looked for beside the programs."""
    for prefix in ("--flagfile=", "-flagfile="):
        if argument.startswith(prefix):
            name = argument.removeprefix(prefix)
            shipped = FLAGFILES / name
            if not os.path.exists(name):
                if not shipped.exists():
                    raise SeaError(
                        f"--flagfile={name} is neither in the working directory nor among the shipped ones: "
                        f"{', '.join(sorted(path.name for path in FLAGFILES.glob('*.flags')))}."
                    )
                return f"{prefix}{shipped}"
    return argument


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs `main(argv)` with flags parsed; an error of the user's is one line on stderr and exit code 1."""

    def guarded(argv):
        logging.set_verbosity(logging.ERROR)  # orbax and jax tell much that is of no use here
        try:
            if len(argv) > 1:
                raise SeaError(f"unexpected argument {argv[1]}; every option is written --name=value.")
            return main(argv)
        except (SeaError, OSError) as error:
            if flags.FLAGS.debug:
                raise
            print(f"error: {_sentence(error)}", file=sys.stderr)
            return 1

    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_text())
        sys.exit(0)
    try:
        arguments = [sys.argv[0], *map(find_flagfile, sys.argv[1:])]
    except SeaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    app.run(guarded, argv=arguments)


def stop_at_once(message: str) -> None:
    """Ends the process with one line, without waiting for other processes that may be gone."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()}: {error.filename}" if error.filename else error.strerror.lower()
    return " ".join(str(error).split())


@contextlib.contextmanager
def whole(path: Path):
    """A path to write to, which becomes `path` at the end: the file is whole or not there at all."""
    aside = path.with_name(f"tmp.{path.name}")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with whole(path) as aside:
        aside.write_text(text)


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable]) -> None:
    """Writes a csv file."""
    with whole(path) as aside, open(aside, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def save_figure(figure, path: Path) -> None:
    """Writes a matplotlib figure and closes it."""
    from matplotlib import pyplot  # slow to import, and few programs draw

    with whole(path) as aside:
        figure.savefig(aside, dpi=75)
    pyplot.close(figure)


_compiled: list[float] = []


def compile_seconds() -> float:
    """Seconds that XLA has spent on compiling in this process, since `prepare_platform`."""
    return sum(_compiled)


def _on_duration(event: str, seconds: float, **_) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(seconds)


def prepare_platform(config: Config) -> None:
    """Process-wide choices that the settings ask for; before the first computation."""
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        # Emulated devices: XLA's CPU backend (JAX 0.10.2) would run independent collectives at once, and crash.
        os.environ["XLA_FLAGS"] += " --xla_cpu_enable_concurrency_optimized_scheduler=false"
    jax.monitoring.register_event_duration_secs_listener(_on_duration)
    if config.deterministic:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    if config.compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.abspath(config.compilation_cache_dir))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
