"""VQAThinker on Ray: teach a vision-language model to judge video quality. The one entry point."""

import logging
import sys

import typer

from cli import demo, prepare, runs
from cli import models as judge
from cli.terminal import print_error
from data.tables import TableError
from runtime.errors import ConfigError, RunDirectoryError

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
OVERRIDES = {"ignore_unknown_options": True}  # settings of a run are options that typer does not know

app.command(context_settings=OVERRIDES, rich_help_panel="Train")(runs.train)
app.command(rich_help_panel="Train")(runs.view)
app.command(rich_help_panel="Train")(runs.status)
app.command(rich_help_panel="Train")(runs.scale)
app.command(rich_help_panel="Train")(runs.stop)
app.command(rich_help_panel="Train")(runs.settings)
app.command(context_settings=OVERRIDES, rich_help_panel="Train")(runs.plan)
app.command(rich_help_panel="Use a model")(judge.score)
app.command(rich_help_panel="Use a model")(judge.evaluate)
app.command(rich_help_panel="Use a model")(judge.ask)
app.command(rich_help_panel="Use a model")(judge.quiz)
app.add_typer(prepare.prepare, name="prepare", rich_help_panel="Data")
app.command("make-demo-set", rich_help_panel="Data")(demo.make_demo_set)
app.command("make-base", rich_help_panel="Data")(demo.make_base)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except (ConfigError, RunDirectoryError, TableError) as error:
        print_error(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
