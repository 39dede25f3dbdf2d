"""What rows hold besides numbers: texts and pictures, as they come; rows that hold neither fail alone."""
