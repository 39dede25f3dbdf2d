"""What of a machine and its packages would keep an ensemble from running: a file for each kind of thing looked at."""
