"""The command line: `unstir VERB [SUBJECT] [key=value ...] [--flags]`.

One file per verb, registered in `VERBS`. Results go to standard output, everything else to
standard error. torch is imported inside the verbs, after the settings have been checked.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from itertools import chain
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from .. import __version__
from ..errors import CheckpointError, ConfigError, DeviceError, UnstirError
from .config import config
from .data import data
from .demo import demo
from .doctor import doctor
from .edit import edit
from .evaluate import evaluate
from .explain import explain
from .inspect import inspect
from .likelihood import likelihood
from .report import report
from .restore import restore
from .runs import runs
from .sample import sample
from .serve import serve
from .solvers import solvers
from .studio import studio
from .train import train
from .tune import tune
from .upscale import upscale

__all__ = ["app", "main"]

EPILOG = """\
\b
Examples:
  unstir demo
  unstir train photos/ time=10m
  unstir sample runs/photos-1 n=16 seed=7 out=grid.png
  unstir inspect grid.png

\b
Model:  a run's folder or name, RUN@STEP, or a .safetensors file.
Exit:   0 ok, 1 failed, 2 usage or settings, 3 data, 4 checkpoint or disk, 5 diverged,
        6 device or memory, 130 interrupted, 143 terminated.
Every command takes --debug: show where in the code an error came from."""

# the verbs and the groups they are listed in; this line each is their registration
VERBS: dict[str, list[Callable[..., None]]] = {
    "Make": [demo, train, sample, edit, upscale, restore, tune],
    "Look": [evaluate, explain, report, inspect, data, runs, likelihood, solvers],
    "Serve": [studio, serve],
    "Set up": [config, doctor],
}


class Grouped(typer.core.TyperGroup):
    """A list of commands under the titles of their groups, without the cost of importing rich."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, verbs in VERBS.items():
            with formatter.section(title):
                names = [verb.__name__ for verb in verbs]
                formatter.write_dl([(name, self.commands[name].get_short_help_str(100)) for name in names])


app = typer.Typer(
    cls=Grouped,
    help="Diffusion models: train on your own data, sample, look inside.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

for verb in chain.from_iterable(VERBS.values()):
    app.command(verb.__name__)(verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unstir {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code; the only place where an exception becomes one."""
    given = sys.argv[1:] if arguments is None else arguments
    # torch's threads would otherwise spin while they wait: beside another busy program that is six times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threading.current_thread() is threading.main_thread():  # elsewhere Python has no signals
        signal.signal(signal.SIGTERM, _terminated)
    try:
        return app(args=[a for a in given if a != "--debug"], prog_name="unstir", standalone_mode=False) or 0
    except BrokenPipeError:
        # the reader of our output has left; what Python still wants to flush goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        known = _known(error)
        if "--json" in given:
            typer.echo(json.dumps({"error": known.to_dict()}), err=True)
        else:
            typer.echo(f"error: {known}", err=True)
            if known.hint:
                typer.echo(f"hint: {known.hint}", err=True)
        return known.exit_code


def _terminated(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def _known(error: Exception) -> UnstirError:
    """Any exception as one of ours, with its exit code."""
    if isinstance(error, UnstirError):
        return error
    if isinstance(error, typer.TyperException):
        return ConfigError(error.format_message(), hint="unstir --help, unstir VERB --help")
    if _out_of_memory(error):
        return DeviceError(
            f"out of memory: {str(error).partition(chr(10))[0]}",
            hint="use a smaller training.micro_batch, network or n, or close other programs",
        )
    if isinstance(error, OSError):
        return CheckpointError(
            f"{error.filename or 'the disk'}: {error.strerror or error}", field=error.filename
        )
    return UnstirError(
        f"{type(error).__name__}: {error}", hint="this is a fault of unstir; --debug shows where it happened"
    )


def _out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
