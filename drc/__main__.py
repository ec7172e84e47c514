"""The command line of the method: python -m drc train | segment."""

from __future__ import annotations

import io
import logging
import signal
import sys
from typing import Any, NoReturn

import click

from drc.cli_segment import segment
from drc.cli_train import train


class Refusal(click.ClickException):
    """One sentence on stderr, exit code 2."""

    exit_code = 2


class Group(click.Group):
    """A group whose commands turn a user's mistake into a Refusal and a stop into exit code 130."""

    def invoke(self, ctx: click.Context) -> Any:
        from drc.checkpoint import CheckpointError
        from drc.distributed import is_lost
        from drc.extraction import OutputError
        from drc.memory import is_lacking
        from drc.prepared import DataError
        from drc.run_folder import RunError
        from drc.tensors import DivergedError

        signal.signal(signal.SIGTERM, _stop)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that are no text
        try:
            return super().invoke(ctx)
        except (CheckpointError, DataError, DivergedError, OutputError, RunError) as error:
            raise Refusal(str(error)) from error
        except BrokenPipeError:
            raise  # who reads the output has seen enough: click ends the command
        except OSError as error:
            where = error.filename or "a file"
            raise Refusal(f"{where}: {error.strerror or error}; choose another place or make room") from error
        except (MemoryError, RuntimeError) as error:
            if is_lost(error):
                raise Refusal(
                    "another process of this training has ended; see what it said, and start all of them again"
                ) from error
            if not is_lacking(error):
                raise
            raise Refusal(
                "there is not enough memory for this: train a run of another name with a smaller --preset or --set "
                "batch_size=..., or segment with a smaller --batch-size"
            ) from error
        except KeyboardInterrupt:
            click.echo("\nStopped; what was done is kept, and the same command goes on.", err=True)
            sys.exit(130)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def main(verbose: bool) -> None:
    """Deep Region Competition: train it on images without masks, and cut the foreground out of others."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(message)s")


main.add_command(train)
main.add_command(segment)


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(prog_name="python -m drc")
