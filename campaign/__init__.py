"""Proves the promises of reliability by breaking things: `make campaign`."""
