"""What answers lose at a stated risk: accuracy by asking few members, errors among the rows that are answered."""
