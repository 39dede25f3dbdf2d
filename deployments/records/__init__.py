"""What is true of each ensemble, who may change it now, and the files that go with it."""
