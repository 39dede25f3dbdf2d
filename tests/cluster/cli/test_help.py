"""What a command says of itself."""

from typer.testing import CliRunner

from quorate.cluster.cli.main import app
from tests.cluster.support.command_line import Shell


def test_every_command_has_help_with_an_example(tmp_path):
    for command in (
        "validate", "plan", "deploy", "query", "status", "tune", "compress", "bench", "rollback", "down", "demo",
        "manifest", "promote", "init", "try", "logs", "doctor", "convert", "schema", "import", "dashboards", "feedback",
        "replay", "drift", "shadow",
    ):  # fmt: skip
        assert f"Example: quorate {command}" in CliRunner().invoke(app, [command, "--help"]).stdout
    assert "Example: quorate validate" in Shell(tmp_path).run("validate", "--help")
