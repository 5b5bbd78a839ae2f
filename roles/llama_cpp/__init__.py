"""llama.cpp itself: built from source for the host's processor, one directory a release."""
