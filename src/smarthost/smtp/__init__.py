"""The SMTP protocol without I/O, both sides, in the manner of h11.

Nothing here opens a socket, reads a clock, logs, or knows Smarthost. Bytes go in, events come out, and what
is to be written is asked for. Whoever owns the socket, the *driver*, owns deadlines, TLS and flow control.
Both classes hold a state machine whose tables stand in `_states`; no method blocks, and the only exception
that any of them raises is `LocalError`, for a driver that breaks the rules. A hostile peer never causes one.

**Client.** Every method that takes something in returns a list of events, and after each call the driver
writes `data_to_send()`, *before* it gives received bytes again: an answer to something that was not handed
out is taken for what it is, a server out of step, and ends the session.

    client = Client(ClientOptions(helo="mail.example.com", security=Security.STARTTLS, login=login))
    while True:                                          # client.stage says which deadline holds here
        writer.write(client.data_to_send())
        data = await reader.read(65536)                  # b"", a reset or a timeout: the connection is lost
        events = client.receive(data) if data else client.eof("connection lost")
        for event in events:
            match event:
                case StartTls():                         # after writing what is to be written (nothing here)
                    await start_tls(); events += client.tls_started()
                case Ready() | Done():
                    if isinstance(event, Done):
                        record(event.transaction, event.results)
                    while client.room and (mail := next_mail()):
                        events += client.send(mail)      # often []; a Done at once where nothing can be sent
                    if nothing_left: client.quit()
                case WantBody(transaction):              # only for transactions with content None
                    async for piece, last in pieces(transaction.tag):
                        events += client.body(transaction, piece, last=last)
                        writer.write(client.data_to_send()); await writer.drain()
                case Refused() | Ended():
                    return writer.close()

A driver that streams content keeps reading meanwhile (421 may come at any time); `body` for a transaction
that is over is ignored. A deadline that passes is `eof("timed out waiting for …")`. The verdict UNKNOWN
depends on what `data_to_send` has given out: whoever must not commit to a final dot does not ask for it.
`in_doubt` names the transactions whose final bytes are out and unanswered.

**Server.** The driver gives bytes, takes events until one of the two `Need`s, and writes. An event marked *
(`Auth`, `Mail`, `Rcpt`, `Content`) must be answered with `answer(reply)` before the next; everything else is
answered inside: order, syntax, parameters, limits.

    server = Server(ServerOptions(hostname="mail.example.com", auth=True, starttls=True))
    server.greet()                                       # or greet(Reply(421, "4.7.0", "too many sessions"))
    while not server.closing:
        writer.write(server.data_to_send())
        data = await reader.read(65536)
        if not data:
            break                                        # an unfinished message is simply discarded
        server.receive(data)
        while not isinstance(event := server.next_event(), Need):
            match event:
                case StartTls():
                    writer.write(server.data_to_send()); await start_tls(); server.tls_started()
                case Auth(mechanism, username, password):
                    server.answer(await check(username, password))  # 235, 535 (after a while), 454
                case Mail(path, params) | Rcpt(path, params):
                    server.answer(OK)                    # or a refusal; only 2yz counts
                case Chunk(data):
                    await keep_piece(data)
                case Content(data, size):
                    server.answer(await accept(data))    # 250 only once durable
                case Reset() | Abort():
                    discard_pieces()
                case Hello() | Quit():
                    pass
    writer.write(server.data_to_send()); writer.close()

An asynchronous driver may leave the inner loop at an event that needs an answer and come back to it later:
`next_event()` says `NEED_ANSWER` until then, and it is the driver who stops reading meanwhile. Content is
given as received after un-stuffing: normalising line ends is the next floor's. Replies of the driver are
made safe here: control characters never leave, long texts are folded into several lines.
"""

from smarthost.smtp._capabilities import Capabilities, parse_capabilities
from smarthost.smtp._client import Client
from smarthost.smtp._events import (
    Abort,
    AbortReason,
    Auth,
    Chunk,
    ClientEvent,
    Content,
    Done,
    Ended,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Ready,
    Refused,
    Reset,
    ServerEvent,
    StartTls,
    WantBody,
)
from smarthost.smtp._server import Server
from smarthost.smtp._states import ClientState, ServerState
from smarthost.smtp._types import (
    NEED_ANSWER,
    NEED_DATA,
    ClientOptions,
    LocalError,
    Login,
    MailParams,
    Need,
    RcptParams,
    Recipient,
    RefusedReason,
    Reply,
    Result,
    Security,
    ServerLimits,
    ServerOptions,
    Stage,
    Transaction,
    Verdict,
    Warn,
)

__all__ = [
    "NEED_ANSWER",
    "NEED_DATA",
    "Abort",
    "AbortReason",
    "Auth",
    "Capabilities",
    "Chunk",
    "Client",
    "ClientEvent",
    "ClientOptions",
    "ClientState",
    "Content",
    "Done",
    "Ended",
    "Hello",
    "LocalError",
    "Login",
    "Mail",
    "MailParams",
    "Need",
    "Quit",
    "Rcpt",
    "RcptParams",
    "Ready",
    "Recipient",
    "Refused",
    "RefusedReason",
    "Reply",
    "Reset",
    "Result",
    "Security",
    "Server",
    "ServerEvent",
    "ServerLimits",
    "ServerOptions",
    "ServerState",
    "Stage",
    "StartTls",
    "Transaction",
    "Verdict",
    "WantBody",
    "Warn",
    "parse_capabilities",
]
