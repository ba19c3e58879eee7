"""A service in Flask, as people write them: it reads, changes and deletes items, and says which of its handlers ran."""

import sys
from urllib.parse import urlsplit

from flask import Flask, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

app = Flask(__name__)
ran = []


@app.before_request
def admin():
    # Like the standard library; Node's `new URL(target, base)` reads a target in the same way.
    if urlsplit(request.environ["TARGET"]).path.startswith("/admin"):
        ran.append("ADMIN")
        return "users\n"


@app.get("/items/<item>")
def read(item):
    ran.append("GET")
    return f"item {item}\n"


@app.post("/items/<item>")
def change(item):
    ran.append("POST")
    return f"item {item} is changed\n"


@app.delete("/items/<item>")
def delete(item):
    ran.append("DELETE")
    return f"item {item} is deleted\n"


@app.get("/")
def index():
    return "items\n"


@app.get("/ran")
def handlers():
    return jsonify(ran)


class Raw(WSGIRequestHandler):
    """Python's server cuts slashes at the beginning of a target; others hand it to the service as it came."""

    def make_environ(self):
        return {**super().make_environ(), "TARGET": self.requestline.split(" ")[1]}


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Raw)
    print(server.port, file=open(sys.argv[1], "w"), flush=True)
    server.serve_forever()
