"""Closed-form rules over members' outputs, one method a file."""
