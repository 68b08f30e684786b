"""From messages to the text that a model continues."""
