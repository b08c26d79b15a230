"""The SMTP protocol without I/O, both sides, in the manner of h11.

Nothing here opens a socket, reads a clock or knows Smarthost. Bytes go in, events come out; what to write
is asked for. Whoever owns the socket owns deadlines and TLS.
"""
