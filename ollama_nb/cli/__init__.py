"""The command line: one tree of commands, which the terminal and the notebook's magics show in their own ways."""
