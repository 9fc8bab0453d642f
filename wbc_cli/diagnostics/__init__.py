"""What `doctor` and `bench` find out about a machine."""
