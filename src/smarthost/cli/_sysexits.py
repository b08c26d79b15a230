"""The exit codes that callers of the classic sendmail understand (sysexits.h)."""

OK = 0
USAGE = 64  # an option that is unknown or refused
DATAERR = 65  # the message itself cannot be accepted
NOUSER = 67  # a recipient that does not exist or is not an address
UNAVAILABLE = 69  # refused for another reason
TEMPFAIL = 75  # nothing was accepted; trying again later may help
NOPERM = 77  # this Unix user may not send
CONFIG = 78  # no data folder
