"""Programs that send: their credential, or the networks and Unix users that stand for one."""
