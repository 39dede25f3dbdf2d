"""Members that a fusion replica runs itself: on its event loop what is short and cannot hang, the rest on a thread."""
