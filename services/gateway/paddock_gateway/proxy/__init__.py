"""The way of a request over HTTP: from its first byte to the back end, and of the answer back."""
