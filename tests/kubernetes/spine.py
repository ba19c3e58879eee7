"""What a gateway in front of Doorward must do, with a service that says what arrives."""

import base64, http.client, http.server, json, sys, threading, time

from faults import check

HOST = "www.example.com"
# Not the address of Envoy, which Doorward trusts.
CLIENT = "127.0.0.2"
IDENTITY = ("x-auth-user", "x-auth-roles", "x-auth-admin")
PIECE = b"d" * 65536


def until(holds, what, log=lambda: ""):
    """The first result that is true, within two minutes."""
    deadline = time.monotonic() + 120
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within two minutes\n{log()}")
        time.sleep(0.1)
    return found


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *connection):
        """A gateway may reset connections that it keeps."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*connection)


class Service:
    """Answers with what it received; counts requests and the bytes of bodies while they arrive."""

    def __init__(self, port, address="127.0.0.1"):
        self.requests, self.received, self.release = 0, 0, threading.Event()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def body(self):
                if self.headers.get("transfer-encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("content-length", 0)))
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    service.received += len(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()

            def do(self):
                service.requests += 1
                self.body()
                if self.path == "/download":
                    return self.download()
                seen = {"path": self.path, "headers": [[name.lower(), value] for name, value in self.headers.items()]}
                text = json.dumps(seen).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def download(self):
                """A second piece follows once the client has the first."""
                self.send_response(200)
                self.send_header("content-length", str(2 * len(PIECE)))
                self.end_headers()
                self.wfile.write(PIECE)
                self.wfile.flush()
                service.release.wait(20)
                self.wfile.write(PIECE)

            do_GET = do_POST = do

        self.server = Server((address, port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Answer:
    def __init__(self, answer):
        self.status, self.headers, self.text = answer.status, answer.headers, answer.read()

    def seen(self, name):
        """The values of a header that the service received."""
        return [value for one, value in json.loads(self.text)["headers"] if one == name]


def ask(port, method, path, *headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(CLIENT, 0))
    connection.putrequest(method, path, skip_host=True)
    for name, value in (("host", HOST), *headers):
        connection.putheader(name, value)
    if method == "POST":
        connection.putheader("content-length", "0")
    connection.endheaders()
    answer = Answer(connection.getresponse())
    connection.close()
    return answer


def status(port, path):
    """The status of a request, or None if nobody listens."""
    try:
        return ask(port, "GET", path).status
    except (OSError, http.client.HTTPException):
        return None


def basic(user, password):
    return ("authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def logged_in(port, user, password):
    """The header with a token of the user, from a login at this port."""
    answer = ask(port, "POST", "/login", basic(user, password))
    check(answer.status == 200, f"login of {user}: {answer.status}")
    return ("authorization", answer.headers.get("authorization", ""))


def expecting(name, port, service):
    """Makes a function that sends a request and checks the answer."""

    def expect(what, status, method, path, *headers, arrives=None):
        """`arrives` is whether the service sees the request: by default, if it is answered with 200."""
        before = service.requests
        answer = ask(port, method, path, *headers)
        check(answer.status == status, f"{name}: {what}: {answer.status} instead of {status}: {answer.text[:200]}")
        arrived = service.requests != before
        check(arrived == (status == 200 if arrives is None else arrives), f"{name}: {what}: the service saw it: {arrived}")
        return answer

    return expect


def guarded(name, port, service, passwords, doorward):
    """Logins, tokens, roles, forged headers, bodies that stream, and the address of the client."""
    expect = expecting(name, port, service)

    def log_in(user):
        answer = expect(f"login of {user}", 200, "POST", "/login", basic(user, passwords[user]), arrives=False)
        return ("authorization", answer.headers.get("authorization", ""))

    anonymous = expect("anonymous", 401, "GET", "/profile")
    check("Bearer" in ", ".join(anonymous.headers.get_all("www-authenticate") or []), f"{name}: no challenge: {anonymous.headers}")
    expect("wrong password", 401, "POST", "/login", basic("bob", "wrong"), ("x-envoy-external-address", "203.0.113.9"), ("x-forwarded-for", "203.0.113.9"))
    bob, ada = log_in("bob"), log_in("ada")
    check(bob[1].startswith("Bearer ") and ada[1].startswith("Bearer "), f"{name}: {bob}")
    expect("no such token", 401, "GET", "/profile", (bob[0], bob[1][:-4] + "AAAA"))

    # Also with forged headers, the service sees the real identity, once.
    forged = [("x-auth-user", "ada"), ("X-Auth-Admin", "true"), ("x-auth-roles", "root"), ("x-auth-user", "eve")]
    for extra in ([], forged):
        answer = expect(f"bob with {extra}", 200, "GET", "/profile", bob, *extra)
        for header, value in zip(IDENTITY, ("bob", "editor", "false")):
            check(answer.seen(header) == [value], f"{name}: {header}: {answer.seen(header)}")
    answer = expect("forged on a public route", 200, "GET", "/healthz", *forged)
    for header in IDENTITY:
        check(answer.seen(header) in ([], [""], ["-"], ["false"]), f"{name}: {header}: {answer.seen(header)}")
    # As CGI reads them. They are refused, or do not arrive.
    for alias in ("x_auth_user", "x~auth~admin", "X.Auth-User"):
        before = service.requests
        answer = ask(port, "GET", "/healthz", (alias, "ada"))
        refused = answer.status == 400 and service.requests == before
        removed = answer.status == 200 and answer.seen(alias.lower()) == []
        check(refused or removed, f"{name}: {alias}: {answer.status} {answer.text}")

    expect("bob as administrator", 403, "GET", "/admin/users", bob)
    answer = expect("ada as administrator", 200, "GET", "/admin/users", ada)
    check(answer.seen("x-auth-admin") == ["true"], f"{name}: {answer.text}")
    for path in ("/x/../admin/users", "//admin/users", "/%61dmin/users", "/./admin/users"):
        expect(path, 403, "GET", path, bob)
    expect("an encoded slash", 400, "GET", "/admin%2Fusers", bob)

    uploads(name, port, service, bob)
    downloads(name, port, service, bob)

    # Not the address that the client wrote.
    log = doorward.log.read_text()
    check(CLIENT in log and "203.0.113.9" not in log, f"{name}: the address of the client: {log[-3000:]}")
    check("the address of a client is not known" not in log, f"{name}: the address of the client is not known")

    status = ask(port, "POST", "/logout", bob).status
    check(status in (200, 204), f"{name}: logout: {status}")
    expect("after the logout", 401, "GET", "/profile", bob)
    print(f"{name}: login, Bearer, administrators, forged headers, streams, logout", flush=True)


def uploads(name, port, service, token):
    """The service sees the first piece before the client sends the second."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(CLIENT, 0))
    connection.putrequest("POST", "/upload", skip_host=True)
    for header in (("host", HOST), token, ("transfer-encoding", "chunked")):
        connection.putheader(*header)
    connection.endheaders()
    before = service.received
    for count in (1, 2, 3):
        connection.send(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
        until(lambda: service.received - before == count * len(PIECE), f"{name}: piece {count} of an upload arrives")
    connection.send(b"0\r\n\r\n")
    answer = connection.getresponse()
    check(answer.status == 200, f"{name}: upload: {answer.status}")
    connection.close()


def downloads(name, port, service, token):
    """The client sees the first piece before the service sends the second."""
    service.release.clear()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(CLIENT, 0))
    connection.request("GET", "/download", headers=dict([("host", HOST), token]))
    answer = connection.getresponse()
    first = answer.read(len(PIECE))
    service.release.set()
    check(answer.status == 200 and first + answer.read() == 2 * PIECE, f"{name}: download: {answer.status}")
    connection.close()


def refused_without_doorward(name, port, service, passwords, doorward):
    """Doorward is down, and then up again."""
    before = service.requests
    for method, path, *headers in (
        ("GET", "/profile"), ("GET", "/profile", basic("ada", passwords["ada"])), ("GET", "/healthz"), ("GET", "/admin/users"),
        ("POST", "/login", basic("ada", passwords["ada"])),
    ):
        answer = ask(port, method, path, *headers)
        check(answer.status == 503, f"{name}: {method} {path} without Doorward: {answer.status}")
    check(service.requests == before, f"{name}: requests pass without Doorward")
    doorward.start()
    until(lambda: ask(port, "GET", "/healthz").status == 200, f"{name}: Doorward is asked again")
    print(f"{name}: refused while Doorward is down, and answered again", flush=True)
