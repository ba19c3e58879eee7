"""A service in Flask behind a gateway that asks Doorward.

    pip install Flask 'PyJWT[crypto]'
    JWKS_URL=http://127.0.0.1:9002/.well-known/jwks.json python flask_service.py 127.0.0.1 8081

/whoami reads the headers that the gateway sets. That suffices if only the gateway reaches this service. /verified also verifies
the token, so it does not depend on that.
"""

import os
import sys
from urllib.parse import unquote

import jwt
from flask import Flask, abort, jsonify, request

app = Flask(__name__)
# Fetches the keys when they are first needed, and again when a token names a key that is not known yet.
keys = jwt.PyJWKClient(os.environ["JWKS_URL"], cache_jwk_set=True, lifespan=60)


@app.get("/whoami")
def whoami():
    user = request.headers.get("x-auth-user")
    if user is None:
        return jsonify(user=None, roles=[], admin=False)
    roles = request.headers["x-auth-roles"]
    return jsonify(
        # Blanks, commas and bytes outside ASCII are percent-encoded.
        user=unquote(user),
        roles=[] if roles == "-" else roles.split(","),
        admin=request.headers["x-auth-admin"] == "true",
    )


@app.get("/verified")
def verified():
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        abort(401)
    try:
        claims = jwt.decode(
            token,
            keys.get_signing_key_from_jwt(token),
            # A fixed list, without "none" and HS256: the token must not choose its algorithm.
            algorithms=["ES256"],
            issuer="doorward",
            audience="doorward",
            options={"require": ["exp", "iat", "sub"]},
        )
    except jwt.PyJWTError:
        abort(401)
    return jsonify(user=claims["username"], roles=claims["roles"], admin=claims["admin"])


if __name__ == "__main__":
    app.run(host=sys.argv[1], port=int(sys.argv[2]))
