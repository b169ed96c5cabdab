"""The source of small decoders: README.md."""
