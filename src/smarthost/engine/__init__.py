"""The engine: takes mail in and delivers it. asyncio on uvloop, no Django."""
