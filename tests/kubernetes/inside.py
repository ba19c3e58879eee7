"""What a gateway with the module in its Envoy must do, besides what every gateway must."""

import time

import spine
from faults import check
from replica import PASSWORDS

# Where the overlays mount the library.
MOUNT = "/doorward"
LIBRARY = f"{MOUNT}/usr/lib/libdoorward.so"
# Where the clusters of the overlays find Doorward.
HOST = "doorward.default.svc.cluster.local"


def held(log, listens, doorward):
    """The start of Envoy waits for the first feed; then Doorward starts."""
    refused = "doorward: an answer of the feed was refused"
    spine.until(lambda: refused in log.read_text(), "the module asks for the feed", log.read_text)
    time.sleep(5)
    check(not listens(), "Envoy listens without a feed")
    doorward.start()


def judged(name, port, service, doorward):
    spine.guarded(name, port, service, PASSWORDS, doorward)
    logged_out_elsewhere(name, port)
    without_doorward(name, port, service, doorward)


def without_doorward(name, port, service, doorward):
    """Doorward is down, for longer than `stale_after` (10s), and then up again."""
    expect = spine.expecting(name, port, service)
    ada, bob = (spine.logged_in(port, user, PASSWORDS[user]) for user in ("ada", "bob"))
    doorward.stop()
    answer = expect("a token without Doorward", 200, "GET", "/profile", bob, ("x-auth-user", "eve"))
    check(answer.seen("x-auth-user") == ["bob"], f"{name}: {answer.text}")
    expect("an administrator without Doorward", 200, "GET", "/admin/users", ada)
    expect("not an administrator, without Doorward", 403, "GET", "/admin/users", bob)
    login = ("POST", "/login", spine.basic("ada", PASSWORDS["ada"]))
    expect("a login without Doorward", 503, *login)

    started = time.monotonic()
    spine.until(lambda: spine.ask(port, "GET", "/profile", bob).status == 503, f"{name}: tokens are refused with an old feed")
    check(time.monotonic() - started > 4, f"{name}: tokens are refused early")
    answer = expect("a token with an old feed", 503, "GET", "/profile", bob)
    check(answer.headers.get("retry-after"), f"{name}: no Retry-After: {answer.headers}")
    expect("an administrator with an old feed", 503, "GET", "/admin/users", ada)
    expect("a public route with an old feed", 200, "GET", "/healthz", ("x-auth-user", "eve"))
    expect("nobody with an old feed", 401, "GET", "/profile")
    expect("a login with an old feed", 503, *login)

    doorward.start()
    spine.until(lambda: spine.ask(port, "GET", "/profile", bob).status == 200, f"{name}: tokens work again")
    expect("a login again", 200, *login, arrives=False)
    print(f"{name}: tokens work while Doorward is down, until the feed is old, and again afterwards", flush=True)


def logged_out_elsewhere(name, port):
    """A logout that does not come through this Envoy."""
    bob = spine.logged_in(port, "bob", PASSWORDS["bob"])
    check(spine.ask(port, "GET", "/profile", bob).status == 200, f"{name}: the token does not work")
    answer = spine.ask(9002, "POST", "/logout", bob)
    check(answer.status in (200, 204), f"{name}: a logout elsewhere: {answer.status} {answer.text}")
    started = time.monotonic()
    spine.until(lambda: spine.ask(port, "GET", "/profile", bob).status == 401, f"{name}: the logout is known")
    check(time.monotonic() - started < 3, f"{name}: the logout is known after {time.monotonic() - started} s")
    print(f"{name}: a logout elsewhere is known", flush=True)
