"""What shows that the endpoint answers, and whom."""
