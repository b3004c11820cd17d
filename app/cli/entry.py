"""The `regard` command's way in: `serve` and `demo` at once, every other command with the house it works on.

Loading the whole service takes longer than all that `serve` does before it becomes the web server, which loads it too.
"""

from __future__ import annotations

import click

from app.cli.demo import demo
from app.cli.serving import serve

LIGHT: dict[str | None, click.Command] = {serve.name: serve, demo.name: demo}
"""Commands that need little of the service in their own process."""


class _Commands(click.Group):
    """The group of `app.cli.main`, loaded when a command of it is named or the list of commands is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self._all().list_commands(ctx), *(name for name in LIGHT if name)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return LIGHT.get(cmd_name) or self._all().get_command(ctx, cmd_name)

    def _all(self) -> click.Group:
        from app.cli.main import main  # noqa: PLC0415 - the point of this module

        return main


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def regard() -> None:
    """Regard: the consent and data-subject-rights authority of an open-finance platform."""


if __name__ == "__main__":
    regard()
