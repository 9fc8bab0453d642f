"""Method comparison: a run's results against a laboratory's own counts, in the layout of CLSI H20-A2."""
