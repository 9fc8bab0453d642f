"""report.html: one page to look at a run and to correct it, made from what has been committed."""
