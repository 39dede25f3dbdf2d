"""What makes a spec, or files that a spec may name, of models that are there: init, convert, import."""
