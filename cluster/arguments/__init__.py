"""What a call may be given for a spec and for rows, and what becomes of it."""
