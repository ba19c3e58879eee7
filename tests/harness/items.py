"""A service in Flask, as people write them: it reads, changes and deletes items, and says which of its handlers ran."""

import sys

from flask import Flask, jsonify
from werkzeug.serving import make_server

app = Flask(__name__)
ran = []


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


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.port, file=open(sys.argv[1], "w"), flush=True)
    server.serve_forever()
