"""Registries: where models are pulled from and pushed to."""
