"""The use cases, without HTTP: what the server does when it is asked something."""
