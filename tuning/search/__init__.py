"""The architecture search: its space, its trials, and the specs worth deploying; candidates and structures in rooms."""
