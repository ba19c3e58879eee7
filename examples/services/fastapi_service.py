"""A service in FastAPI behind a gateway that asks Doorward.

    pip install fastapi uvicorn 'PyJWT[crypto]'
    JWKS_URL=http://127.0.0.1:9002/.well-known/jwks.json python fastapi_service.py 127.0.0.1 8081

/whoami reads the headers that the gateway sets. That suffices if only the gateway reaches this service. /verified also verifies
the token, so it does not depend on that.
"""

import os
import sys
from typing import Annotated
from urllib.parse import unquote

import jwt
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

app = FastAPI()
# Fetches the keys when they are first needed, and again when a token names a key that is not known yet.
keys = jwt.PyJWKClient(os.environ["JWKS_URL"], cache_jwk_set=True, lifespan=60)


class Caller(BaseModel):
    user: str | None = None
    roles: list[str] = []
    admin: bool = False


def from_headers(
    x_auth_user: Annotated[str | None, Header()] = None,
    x_auth_roles: Annotated[str, Header()] = "-",
    x_auth_admin: Annotated[str, Header()] = "false",
) -> Caller:
    if x_auth_user is None:
        return Caller()
    return Caller(
        # Blanks, commas and bytes outside ASCII are percent-encoded.
        user=unquote(x_auth_user),
        roles=[] if x_auth_roles == "-" else x_auth_roles.split(","),
        admin=x_auth_admin == "true",
    )


# FastAPI runs this in a thread, because fetching the keys waits.
def from_token(shown: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> Caller:
    if shown is None:
        raise HTTPException(401)
    try:
        claims = jwt.decode(
            shown.credentials,
            keys.get_signing_key_from_jwt(shown.credentials),
            # A fixed list, without "none" and HS256: the token must not choose its algorithm.
            algorithms=["ES256"],
            issuer="doorward",
            audience="doorward",
            options={"require": ["exp", "iat", "sub"]},
        )
    except jwt.PyJWTError:
        raise HTTPException(401)
    return Caller(user=claims["username"], roles=claims["roles"], admin=claims["admin"])


@app.get("/whoami")
def whoami(caller: Annotated[Caller, Depends(from_headers)]) -> Caller:
    return caller


@app.get("/verified")
def verified(caller: Annotated[Caller, Depends(from_token)]) -> Caller:
    return caller


if __name__ == "__main__":
    uvicorn.run(app, host=sys.argv[1], port=int(sys.argv[2]), log_level="warning")
