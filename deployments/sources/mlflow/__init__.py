"""MLflow's folders: their flavours by the sources of their formats, their signature checked."""
