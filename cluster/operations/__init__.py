"""Everything the command line can do, each as one call that returns an object and prints nothing."""
