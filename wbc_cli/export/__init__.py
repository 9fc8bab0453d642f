"""Results for other systems: tables for data science, and reports for a laboratory's own system."""
