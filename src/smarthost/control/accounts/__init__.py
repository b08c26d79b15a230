"""People: users with a role, their addresses, tokens and one-time sign-in links."""
