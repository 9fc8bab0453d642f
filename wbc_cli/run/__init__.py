"""A run over many slides: what is to be done, a process that does it, another that outlives its crashes."""
