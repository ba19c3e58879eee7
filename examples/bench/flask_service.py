"""The service that Doorward replaces, as such services are written by hand: Flask, PyJWT, HS256."""

import os

import jwt
from flask import Flask, request

app = Flask(__name__)


@app.route("/validate", methods=["GET", "POST"])
def validate():
    header = request.headers.get("Authorization")
    if not header:
        return "Missing credentials", 401
    try:
        claims = jwt.decode(
            header.split(" ")[1],
            os.environ["JWT_SECRET"],
            algorithms=["HS256"],
            options={"verify_aud": False},
        )
    except (IndexError, jwt.PyJWTError):
        return "Not authorized", 403
    return claims, 200
