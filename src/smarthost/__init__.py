"""Smarthost: one service through which an organisation's people and programs send email."""

__version__ = "0.1.0"
