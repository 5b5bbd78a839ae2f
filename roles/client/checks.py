"""What shows that an account's programs get through, and nobody else's."""
