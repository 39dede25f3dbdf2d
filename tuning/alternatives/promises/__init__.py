"""What answers promise on new rows: sets that hold the truth, what few members lose, errors among answered rows."""
