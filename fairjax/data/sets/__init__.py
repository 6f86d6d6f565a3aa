"""One file per data set. Each file has an ``ENTRY`` for the registry."""
