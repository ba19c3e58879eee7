"""One program that is started in different ways: as an image runs it, or on an emulated processor."""

import socket, subprocess

import spine
from faults import check
from replica import PASSWORDS, end


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serves(folder, started, command, examine=lambda process: None):
    """A user is added and logs in, the token is good, and Doorward ends when it is told to. `started` starts it with arguments and the
    addresses to listen on, as variables; `examine` looks at the process while it is ready."""
    ports = {name: free_port() for name in ("GRPC", "HTTP", "OPS")}
    listen = {f"DOORWARD_LISTEN__{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
    adding = started("user", "add", "ada", listen=listen, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _, said = adding.communicate(PASSWORDS["ada"], timeout=60)
    check(adding.returncode == 0, f"user add: {said}")
    log = folder / "doorward.log"
    with open(log, "w") as output:
        doorward = started(*command, listen=listen, stdout=output, stderr=output)
    try:
        spine.until(lambda: spine.status(ports["OPS"], "/readyz") == 200, "Doorward is ready", log.read_text)
        examine(doorward)
        name, bearer = spine.logged_in(ports["HTTP"], "ada", PASSWORDS["ada"])
        answer = spine.ask(ports["HTTP"], "GET", "/validate", (name, bearer))
        check(answer.status == 200, f"its token gets {answer.status}")
        wrong = spine.ask(ports["HTTP"], "GET", "/validate", (name, f"{bearer[:-9]}AAAAAAAAA"))
        check(wrong.status == 403, f"a forged token gets {wrong.status}")
        healthy = started("check", "--url", f"http://127.0.0.1:{ports['OPS']}/readyz", listen=listen)
        check(healthy.wait(60) == 0, "the health check fails")
    finally:
        end(doorward)
    check(doorward.returncode == 0, f"after SIGTERM, Doorward ends with {doorward.returncode}\n{log.read_text()}")
