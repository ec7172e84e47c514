"""Commands that make prepared data sets and look at them: python -m data_prep --help."""

from __future__ import annotations

import click

from data_prep import cli_look, cli_make, cli_pseudo, cli_speed
from data_prep.cli import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Turn raw archives into prepared data sets: a folder of images, object masks, an index and a manifest.

    \b
    Example:
      python -m data_prep tm-dsprites --out data/tm-dsprites
    """


for command in (
    cli_make.tm_dsprites_command,
    cli_make.birds_command,
    cli_pseudo.dogs_command,
    cli_pseudo.cars_command,
    cli_make.clevr6_command,
    cli_make.folder_command,
    cli_make.authors_command,
    cli_look.verify_command,
    cli_look.info_command,
    cli_look.preview_command,
    cli_look.status_command,
    cli_speed.speed_command,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="python -m data_prep")
