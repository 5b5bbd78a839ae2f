"""What drives the cards of a host."""
