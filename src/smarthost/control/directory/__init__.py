"""Compiles what `admit` reads, in the transaction of every change."""
