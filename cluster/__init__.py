"""The command line, and the local cluster it starts when none is named."""
