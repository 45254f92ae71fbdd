"""VQAThinker on Ray: train a vision-language model to score video quality, and use it."""

import logging
import sys
from pathlib import Path


def no_environment(error: ModuleNotFoundError) -> str:
    """The message for a missing package, with the fix. Raises `error` if it is a module of this project."""
    package = str(error.name).partition(".")[0]
    folder = Path(__file__).resolve().parent
    if (folder / package).is_dir() or (folder / f"{package}.py").is_file():
        raise error
    return (
        f"error: {sys.executable} has no package '{package}': run `make setup` in {folder} (for GPUs see its "
        f"README.md), then start this program with {folder / '.venv/bin/python'}"
    )


if sys.version_info < (3, 11):  # noqa: UP036  older Pythons would fail with a SyntaxError in a module
    sys.exit(
        f"error: {sys.executable} is older than Python 3.11: run `make setup`, then use .venv/bin/python"
    )

try:
    import typer

    from cli import demo, models, prepare, runs
    from cli.terminal import print_error
    from data.tables import TableError
    from runtime.errors import CommandFailed, ConfigError, RunDirectoryError
except ModuleNotFoundError as missing:
    sys.exit(no_environment(missing))

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
OVERRIDES = {"ignore_unknown_options": True}  # settings of a run are not declared as typer options

app.command(context_settings=OVERRIDES, rich_help_panel="Train")(runs.train)
app.command(rich_help_panel="Train")(runs.view)
app.command(rich_help_panel="Train")(runs.status)
app.command(rich_help_panel="Train")(runs.scale)
app.command(rich_help_panel="Train")(runs.stop)
app.command(rich_help_panel="Train")(runs.settings)
app.command(context_settings=OVERRIDES, rich_help_panel="Train")(runs.plan)
app.command(rich_help_panel="Use a model")(models.score)
app.command(rich_help_panel="Use a model")(models.compare)
app.command(rich_help_panel="Use a model")(models.evaluate)
app.command(rich_help_panel="Use a model")(models.ask)
app.command(rich_help_panel="Use a model")(models.quiz)
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
    except CommandFailed as error:
        print_error(str(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        sys.exit(no_environment(error))


if __name__ == "__main__":
    main()
