"""The command line: flags made from Config, flagfiles looked up, every error in one sentence. All that knows absl."""

import contextlib
import dataclasses
import logging as python_logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from absl import app, flags, logging

from sea_jax import files
from sea_jax.config import GROUPS, Config, kind_of, shown
from sea_jax.errors import SeaError

FLAGS = flags.FLAGS
SHIPPED = Path("experiments") / "flags"  # of the repository, beside the programs
DEFINED: list[tuple[type, list[dataclasses.Field]]] = []  # dataclasses that flags were defined for, with their fields


def define_config_flags(names: Iterable[str] | None = None) -> None:
    """Defines one flag per setting (or per setting named): type, default, limits and help from Config."""
    define_flags(Config, names)


def define_flags(settings: type, names: Iterable[str] | None = None, **defaults) -> None:
    """Defines one flag per field of a dataclass made of `config.setting`s (or per field named).

    Args:
      settings: the dataclass.
      names: of its fields; all without.
      defaults: of some flags, where a program's differ from the dataclass's.
    """
    names = None if names is None else tuple(names)
    fields = [field for field in dataclasses.fields(settings) if names is None or field.name in names]
    for field in fields:
        _define(settings, field, defaults.get(field.name, field.default))
    DEFINED.append((settings, fields))


def _define(settings: type, field: dataclasses.Field, default) -> None:
    kind, several = kind_of(field)
    choices = field.metadata["choices"]
    own = "; by default the backbone's own" if settings is Config and default is None else ""
    help = field.metadata["help"] + own
    if several:
        flags.DEFINE_list(field.name, [str(value) for value in default], help)
    elif choices:
        flags.DEFINE_enum(field.name, default, choices, help)
    else:
        define = {
            bool: flags.DEFINE_bool,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            str: flags.DEFINE_string,
        }
        define[kind](field.name, default, help)


def define_run_flags(required: bool = True) -> None:
    """Flags of every program that reads a run."""
    flags.DEFINE_string("workdir", None, "folder of the run", required=required)
    flags.DEFINE_string("data_dir", "", "folder of the bundle, if it moved since training")
    flags.DEFINE_enum("checkpoint", "best", ("best", "latest"), "which parameters")


def config_from_flags() -> Config:
    """The Config that the flags describe; raises SeaError for impossible values."""
    return from_flags(Config)


def from_flags(settings: type):
    """The dataclass that the flags describe, whose fields all have flags; raises SeaError for impossible values."""
    values = {}
    for field in dataclasses.fields(settings):
        kind, several = kind_of(field)
        value = FLAGS[field.name].value
        values[field.name] = entries(field.name, kind) if several else value
    return settings(**values)


def entries(name: str, kind: type) -> tuple:
    """A flag's list with its entries of this type; raises SeaError for an entry that is none."""
    value = FLAGS[name].value
    try:
        return tuple(kind(entry) for entry in value)
    except ValueError as error:
        raise SeaError(f"--{name}={shown(value)} must be a list of {kind.__name__}s.") from error


def help_text() -> str:
    """The program's purpose and its flags in groups, one line each, with defaults."""
    main = sys.modules["__main__"]
    settings_of = {field.name for _, fields in DEFINED for field in fields} | {"debug"}
    own = [
        flag
        for module in (sys.modules[__name__], main)
        for flag in FLAGS.get_flags_for_module(module)
        if flag.name not in settings_of
    ]
    lines = [(main.__doc__ or "").strip(), "", *map(_help_line, own)]
    for settings, fields in DEFINED:
        title = "How it is made"
        for field in dataclasses.fields(settings):
            title = GROUPS.get(field.name, title) if settings is Config else title
            if field in fields:
                lines += [] if f"{title}:" in lines else [f"{title}:"]
                lines.append(_help_line(FLAGS[field.name]))
    lines += [_help_line(FLAGS["debug"]), "  --flagfile=FILE                reads flags from a file, one a line."]
    return "\n".join(lines)


def _help_line(flag) -> str:
    default = "" if flag.default is None else shown(flag.default)
    return f"  {f'--{flag.name}={default}':30s} {' '.join(flag.help.split())}"  # absl breaks some lines


def expand(arguments: list[str], within: tuple[str, ...] = ()) -> list[str]:
    """The arguments with each flagfile's lines in its place; later flags win.

    A flagfile that is not in the working directory is looked for in experiments/flags/.

    Raises: SeaError if there is none, it is no text, or flagfiles include each other.
    """
    found, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in ("--flagfile", "-flagfile"):
            argument = f"--flagfile={rest.pop(0) if rest else ''}"
        if not argument.startswith(("--flagfile=", "-flagfile=")):
            found.append(argument)
            continue
        path = _flagfile(argument.partition("=")[2])
        if path in within:
            raise SeaError(f"--flagfile={path} includes itself.")
        lines = (line.strip() for line in files.read_lines(path))
        found += expand([line for line in lines if line and not line.startswith(("#", "//"))], (*within, path))
    return found


def _flagfile(name: str) -> str:
    shipped = Path(sys.argv[0]).resolve().parent.parent / SHIPPED
    for path in (Path(name), shipped / name):
        if name and path.is_file():
            return str(path)
    raise SeaError(
        f"--flagfile={name} is neither in the working directory nor among the shipped ones: "
        f"{', '.join(sorted(path.name for path in shipped.glob('*.flags')))}."
    )


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs `main(argv)` with flags parsed and ends the process; what a user can mend is one line and exit code 1."""
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(sys.argv[1:]):
        with contextlib.suppress(BrokenPipeError):  # whoever reads may have seen enough
            print(help_text(), flush=True)
        sys.exit(0)
    try:
        arguments = FLAGS([sys.argv[0], *expand(sys.argv[1:])])
        quieten(FLAGS.debug)
        if len(arguments) > 1:
            raise SeaError(f"unexpected argument {arguments[1]}; every option is written --name=value.")
    except flags.Error as error:
        tell(error)
        sys.exit(1)
    except (SeaError, OSError) as error:
        tell(error)
        sys.exit(1)
    app.run(lambda _: guarded(main, arguments), argv=arguments[:1], flags_parser=lambda argv: argv)


def quieten(debug: bool) -> None:
    """Leaves to one sentence what orbax, tensorstore and jax say at length, in threads of their own, where it fails."""
    logging.set_verbosity(logging.ERROR if debug else logging.FATAL)
    if not debug:
        python_logging.getLogger("asyncio").setLevel(python_logging.CRITICAL)  # of errors that somebody else has told
        sys.unraisablehook = unraisable


def unraisable(of) -> None:
    """`sys.unraisablehook`, silent where tensorstore calls a loop that orbax has closed after a failed write."""
    if not (of.exc_type is RuntimeError and str(of.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(of)


def guarded(main: Callable[[list[str]], int | None], arguments: list[str]) -> int:
    """The exit code of `main(arguments)`: 1 after an error of the user's, told in one line; 130 after Ctrl-C."""
    try:
        return main(arguments) or 0
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or Python would complain when it flushes
        return 0
    except (SeaError, OSError) as error:
        if FLAGS.debug:
            raise
        tell(error)
        return 1
    except KeyboardInterrupt as stopped:
        if FLAGS.debug:
            raise
        print(stopped.args[0] if stopped.args else "stopped.", file=sys.stderr)
        return 130


@contextlib.contextmanager
def interrupts(enabled: bool = True) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, as a function to ask; a second one stops at once.

    Training that is asked to stop between epochs can save the last one.
    """
    pressed = []

    def press(signum, frame):
        if pressed:
            raise KeyboardInterrupt("stopped; the same command resumes from the last checkpoint.")
        pressed.append(signum)
        print("stopping after this epoch; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, press) if enabled else None
    try:
        yield lambda: bool(pressed)
    finally:
        if enabled:
            signal.signal(signal.SIGINT, before)


def tell(error: Exception) -> None:
    """One line on stderr."""
    print(f"error: {sentence(error)}", file=sys.stderr, flush=True)


class Progress:
    """What is done, how far, and how long it may take: one line that changes on a terminal, now and then one in a log."""

    def __init__(self, stream=None, every: float = 15.0):
        self.stream, self.every = stream or sys.stderr, every
        self.what, self.began, self.said = "", 0.0, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tells of `done` of `total`."""
        now, terminal = time.monotonic(), self.stream.isatty()
        if what != self.what:
            self.what, self.began, self.said = what, now, now
        if done < total and now - self.said < (0.2 if terminal else self.every):
            return
        if done >= total and not terminal and now - self.began < self.every:
            return
        self.said, spent = now, now - self.began
        left = f", {spent * (total - done) / done:.0f} s left" if done < total and done and spent > 2 else ""
        line = f"{what}: {min(done / max(total, 1), 1):.0%}, {spent:.0f} s{left}"
        print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal and done < total else "\n", file=self.stream)
        self.stream.flush()


def stop_at_once(message: str) -> None:
    """Ends the process with one line, without waiting for other processes that may be gone."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)


def sentence(error: Exception) -> str:
    """An error as one line for a person."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()}: {error.filename}" if error.filename else error.strerror.lower()
    message = " ".join(str(error).split())
    missing = re.fullmatch(r"flag --(\w+)=None: Flag --\w+ must have a value other than None\.", message)
    return f"--{missing[1]} is missing; --help says what it is." if missing else message


if "debug" not in FLAGS:
    flags.DEFINE_bool("debug", False, "show the traceback of an error")
