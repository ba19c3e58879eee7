// A service in Node behind a gateway that asks Doorward.
//
//     npm ci
//     JWKS_URL=http://127.0.0.1:9002/.well-known/jwks.json node service.mjs 127.0.0.1 8081
//
// /whoami reads the headers that the gateway sets. That suffices if only the gateway reaches this service. /verified also
// verifies the token, so it does not depend on that.

import { createServer } from "node:http";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";

const [host, port] = process.argv.slice(2);
// Fetches the keys when they are first needed, and again when a token names a key that is not known yet.
const keys = createRemoteJWKSet(new URL(process.env.JWKS_URL), { cacheMaxAge: 60_000 });

function fromHeaders(headers) {
  const user = headers["x-auth-user"];
  if (user === undefined) return { user: null, roles: [], admin: false };
  const roles = headers["x-auth-roles"];
  return {
    // Blanks, commas and bytes outside ASCII are percent-encoded.
    user: decodeURIComponent(user),
    roles: roles === "-" ? [] : roles.split(","),
    admin: headers["x-auth-admin"] === "true",
  };
}

async function fromToken(headers) {
  const token = /^bearer ([^ ]+)$/i.exec(headers.authorization ?? "")?.[1];
  if (token === undefined) return null;
  try {
    const { payload } = await jwtVerify(token, keys, {
      // A fixed list, without "none" and HS256: the token must not choose its algorithm.
      algorithms: ["ES256"],
      issuer: "doorward",
      audience: "doorward",
      requiredClaims: ["exp", "iat", "sub"],
    });
    return { user: payload.username, roles: payload.roles, admin: payload.admin };
  } catch (error) {
    if (error instanceof errors.JOSEError) return null;
    throw error;
  }
}

async function answer(request) {
  // Not new URL(request.url, base): it would read //host/path as a host.
  switch (request.url.split("?")[0]) {
    case "/whoami":
      return [200, fromHeaders(request.headers)];
    case "/verified": {
      const caller = await fromToken(request.headers);
      return caller === null ? [401, { error: "unauthorized" }] : [200, caller];
    }
    default:
      return [404, { error: "not found" }];
  }
}

createServer((request, response) => {
  answer(request)
    .catch(() => [500, { error: "internal" }])
    .then(([status, body]) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    });
}).listen(Number(port), host);
