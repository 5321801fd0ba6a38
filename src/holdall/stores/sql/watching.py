"""Connections that notice a server that hangs, or a network that is gone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import monotonic
from typing import Any, cast

from holdall.stores.password import Password
from holdall.stores.sql.connecting import driver

_SILENT = "the server hasn't answered for {:g} s, and can't be connected to again"


def connector(parameters: dict[str, str], secret: Password | None, timeout: float) -> Callable[[], Any]:
    """Return what connects to a server.

    Args:
        parameters: Of libpq; they replace those that are made here.
        secret: The password.
        timeout: Seconds to wait for the connection, and later for a byte of the server.
    """
    settings: dict[str, Any] = {
        "connect_timeout": max(2, round(timeout)),
        # If the network is gone, the system ends the connection; if the server hangs, `Watched` does.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": max(1000, round(timeout * 1000)),
        "fallback_application_name": "holdall",
        **parameters,
        "client_encoding": "UTF8",
    }

    def connect(**options: Any) -> Any:
        password = None if secret is None else secret.value()
        given = {} if password is None else {"password": password}
        connection = _watched_class().connect("", autocommit=True, **{**settings, **given, **options})
        connection.patience, connection.asks = timeout, ask
        return connection

    def ask() -> bool:
        """Return whether the server answers at all, if only to refuse."""
        try:
            connect(connect_timeout=min(5, settings["connect_timeout"])).close()
        except driver().errors.ConnectionTimeout:
            return False
        except (driver().Error, OSError):
            return True
        return True

    driver()
    return connect


@cache
def _watched_class() -> Any:
    """Return the class of connections that notice a server that hangs.

    A server that works on a long statement sends nothing either, or one that waits for another client's
    transaction. So after some silence it is asked on another connection.
    """
    psycopg = driver()

    base: Any = psycopg.Connection

    class Watched(base):
        patience: float | None = None
        asks: Callable[[], bool]

        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            heard = gen if self.patience is None else self.listen(gen, self.patience)
            return base.wait(self, heard, *args, **options)

        def listen(self, gen: Any, patience: float) -> Any:
            try:
                state = next(gen)
                heard = monotonic()
                while True:
                    ready = cast(int, (yield state))
                    if ready:
                        heard = monotonic()
                    elif monotonic() - heard > patience:
                        if not self.asks():
                            self.close()
                            raise psycopg.errors.ConnectionTimeout(_SILENT.format(patience))
                        heard = monotonic()
                    sent = gen.send(ready)
                    state = sent if ready else state
            except StopIteration as end:
                return end.value

    return Watched
