"""The model store on disk, byte-compatible with ``~/.ollama/models``: blobs, manifests and what they make together."""
