"""GGUF files, read without a library: what a header says, and how much memory the model will need.

``reader`` reads, ``header`` answers, ``footprint`` estimates. Loading tensors is left to the engine, writing
files to ``convert``.
"""
