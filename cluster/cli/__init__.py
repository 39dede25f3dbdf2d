"""The command line: options, tables and commands."""
