"""What the program says on the terminal: messages and progress."""
