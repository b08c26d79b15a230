"""A private Postfix instance: its own configuration and queue, loopback only, started and stopped here.

It serves as the peer that the bench relays through and as a real server that Smarthost delivers to.
Needs root and the Debian package `postfix`; `missing()` says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from peers.ports import free_port, wait_for_port

_MASTER = """
127.0.0.1:{port} inet n - n - {processes} smtpd {options}
{smtps}
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - {processes} smtp
relay unix - - n - {processes} smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str | None:
    """What keeps Postfix from running here and the command that helps, or None."""
    if shutil.which("postfix") is None:
        return "postfix is missing: apt-get install postfix"
    if os.geteuid() != 0:
        return "postfix needs root to start: run the tests as root"
    return None


@dataclass
class Postfix:
    """One instance under `folder`. `main` adds or overrides main.cf settings.

    With `relayhost` None every message is delivered to `maildrop` (one mbox-less Maildir), else relayed.
    """

    folder: Path
    relayhost: str | None = None
    processes: int = 100
    main: dict[str, str] = field(default_factory=dict)
    tls: tuple[Path, Path] | None = None
    users: dict[str, str] = field(default_factory=dict)
    mechanisms: str = "PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256"
    port: int = field(default_factory=free_port)
    smtps_port: int | None = None

    def start(self) -> Postfix:
        etc, queue, data = (self.folder / name for name in ("etc", "queue", "lib"))
        for path in (etc, queue, data, self.maildir):
            path.mkdir(parents=True, exist_ok=True)
        # Postfix's own daemons run as other users: they must be able to pass through the temporary folder.
        for parent in (self.folder, *self.folder.parents):
            if parent == Path("/tmp"):
                break
            parent.chmod(parent.stat().st_mode | 0o055)
        shutil.chown(data, "postfix")
        shutil.chown(self.maildir, "nobody")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(queue),
            "data_directory": str(data),
            "maillog_file": str(self.folder / "log"),
            "maillog_file_prefixes": str(self.folder),
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "myhostname": "peer.example.test",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "default_process_limit": str(self.processes),
            "smtp_host_lookup": "native",
            "smtp_tls_security_level": "none",
            "smtpd_tls_security_level": "none",
            "smtpd_peername_lookup": "no",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "message_size_limit": "104857600",
            "mailbox_size_limit": "0",
            "virtual_mailbox_limit": "0",
            "master_service_disable": "",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_client_connection_rate_limit": "0",
        }
        if self.relayhost:
            settings["relayhost"] = self.relayhost
            settings["default_transport"] = "relay"
        else:
            settings |= {
                "virtual_mailbox_domains": "static:all",
                "virtual_mailbox_base": str(self.maildir),
                "virtual_mailbox_maps": "static:all/",
                "virtual_uid_maps": "static:65534",
                "virtual_gid_maps": "static:65534",
                "virtual_minimum_uid": "1",
            }
        if self.tls:
            settings |= {
                "smtpd_tls_security_level": "may",
                "smtpd_tls_cert_file": str(self.tls[0]),
                "smtpd_tls_key_file": str(self.tls[1]),
            }
        if self.users:
            settings |= self._sasl()
        smtps = ""
        if self.smtps_port:
            smtps = f"127.0.0.1:{self.smtps_port} inet n - n - 10 smtpd -o smtpd_tls_wrappermode=yes"
        settings |= self.main
        (etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        (etc / "master.cf").write_text(
            _MASTER.format(port=self.port, processes=self.processes, options="", smtps=smtps).lstrip()
        )
        self._command("start")
        wait_for_port(self.port)
        return self

    def _sasl(self) -> dict[str, str]:
        """Cyrus SASL with a password file of this instance: every mechanism that Debian's modules offer."""
        folder = self.folder / "etc" / "sasl"  # where Debian's Postfix looks, below its configuration
        folder.mkdir(exist_ok=True)
        users = folder / "users"
        for user, password in self.users.items():
            subprocess.run(
                ["saslpasswd2", "-c", "-p", "-f", str(users), "-u", "peer.example.test", user],
                input=password,
                text=True,
                check=True,
            )
        shutil.chown(users, "postfix")
        (folder / "smtpd.conf").write_text(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\n"
            f"sasldb_path: {users}\nmech_list: {self.mechanisms}\n"
        )
        return {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "cyrus",
            "smtpd_sasl_path": "smtpd",
            "cyrus_sasl_config_path": str(folder),
            "smtpd_sasl_local_domain": "peer.example.test",
            "smtpd_sasl_security_options": "noanonymous",
            "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "broken_sasl_auth_clients": "yes",
        }

    @property
    def maildir(self) -> Path:
        return self.folder / "mail"

    def stop(self) -> None:
        self._command("stop", check=False)

    def __enter__(self) -> Postfix:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def delivered(self) -> list[bytes]:
        """The content of every message delivered here so far."""
        return [path.read_bytes() for path in sorted(self.maildir.glob("all/new/*"))]

    def wait_delivered(self, count: int, seconds: float = 20.0) -> list[bytes]:
        """Wait until at least `count` messages were delivered here, and return them all.

        Raises TimeoutError with the end of Postfix's log.
        """
        deadline = time.monotonic() + seconds
        while len(found := self.delivered()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} delivered\n{self.log()[-3000:]}")
            time.sleep(0.05)
        return found

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _command(self, verb: str, *, check: bool = True) -> None:
        done = subprocess.run(
            ["postfix", "-c", str(self.folder / "etc"), verb], capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"postfix {verb}: {done.stderr}\n{self.log()[-2000:]}")
