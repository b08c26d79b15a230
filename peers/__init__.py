"""Real mail servers and links for tests, bench and campaign. Nothing here is part of the program."""
