"""From files that researchers have to GGUF: safetensors, adapters and tokenizers in, one GGUF file out; and smaller.

``model`` and ``adapters`` are the two conversions, ``families`` know the architectures, ``vocab`` the tokenizers,
``safetensors`` the files. All of it runs in a process of its own, which ``process`` starts and ends: what a hostile
file can do ends with that process, and so does a conversion that nobody waits for any more.
"""
