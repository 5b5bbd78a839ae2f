"""What shows that the table is loaded, and keeps out whom it should."""
