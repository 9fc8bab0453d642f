"""The commands: options in, words out, no work of their own."""
