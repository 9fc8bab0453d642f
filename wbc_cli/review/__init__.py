"""What reviewers say of a run's cells: corrections, the log that keeps them, and what they come to."""
