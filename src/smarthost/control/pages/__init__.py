"""The first pages: signing in by a link, and what became of the mail. Rendered here, without scripts."""
