"""SMTP servers that carry mail, as an administrator sets them."""
