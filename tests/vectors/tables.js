// The part of tables.py that runs in Node: reads passwords and writes vectors of ASP.NET Core Identity, by two
// implementations of its format.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const path = require("node:path");

const from = createRequire(path.resolve(process.argv[2], "index.js"));
const version = (name) => from(`${name}/package.json`).version;

async function main() {
  const passwords = JSON.parse(readFileSync(0, "utf8"));
  const vectors = [];
  const add = (name, password, hash) =>
    vectors.push({ scheme: "pbkdf2", made_by: `${name} ${version(name)}`, password, hash });
  for (const password of passwords) {
    const first = "asp-identity-pw";
    add(first, password, await from(first).hashIdentityPasswordV3(password));
    const second = "aspnetcore-identity-password-hasher";
    add(second, password, await from(second).hash(password));
  }
  process.stdout.write(JSON.stringify(vectors));
}

main();
