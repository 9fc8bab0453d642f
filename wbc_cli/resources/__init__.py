"""What the machine lends: cores, memory, threads, and signs of life."""
