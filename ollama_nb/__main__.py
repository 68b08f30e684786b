"""``python -m ollama_nb``: the program ``ollama-nb``, where only the interpreter is known."""

from ollama_nb.cli.main import main

if __name__ == "__main__":
    main()
