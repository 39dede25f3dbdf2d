"""What members write: kept in files on their nodes, bounded, and a day longer than they run."""
