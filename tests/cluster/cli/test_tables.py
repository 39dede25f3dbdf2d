"""What a terminal shows of a result."""

from rich.console import Console

from quorate.cluster.cli.tables import rendered
from quorate.deployments.display import Displayed, Table


class Two(Displayed):
    def tables(self):
        return [Table(("member",), [("cnn",)], "ready"), Table(("member",), [], "starting", ["wait [a while]"])]


def test_a_table_without_rows_still_shows_its_title_and_lines():
    console = Console(width=80)
    with console.capture() as shown:
        console.print(rendered(Two()), markup=False)
    for text in ("ready", "cnn", "starting", "wait [a while]"):
        assert text in shown.get()
