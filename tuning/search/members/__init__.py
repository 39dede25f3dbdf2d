"""Candidates: members trained by the sweep, heads that read members, and members in other number formats."""
