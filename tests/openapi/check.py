"""Holds what a server answered against docs/openapi.yaml: check.py DOCUMENT < EXCHANGES

EXCHANGES is a list of {method, path, status, headers, body}. Each must be an operation with this status, its content type,
the headers it requires, and a body of its schema; and each response that the document has must be among them.
"""

import json, re, sys
from urllib.parse import urlsplit

import jsonschema
import yaml

# What an idle server with a database does not answer; tests of outages and floods have them.
ELSEWHERE = {"503"}


def main():
    document = yaml.safe_load(open(sys.argv[1]))
    exchanges = json.load(sys.stdin)
    faults = []

    def resolved(thing):
        while isinstance(thing, dict) and "$ref" in thing:
            found = document
            for part in thing["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            thing = found
        return thing

    def fits(value, schema, where):
        whole = {**schema, "components": document["components"]}
        for fault in jsonschema.Draft202012Validator(whole).iter_errors(value):
            faults.append(f"{where}: {fault.message}")

    operations = {}
    for path, methods in document["paths"].items():
        pattern = re.escape(path).replace(re.escape("{path}"), ".*").replace(re.escape("{id}"), "[^/]+")
        for method, operation in methods.items():
            if method == "parameters":
                continue
            for status, response in operation["responses"].items():
                operations[(path, method, status)] = (re.compile(pattern), resolved(response))
    seen = set()
    for exchange in exchanges:
        method, status = exchange["method"].lower(), str(exchange["status"])
        where = f"{exchange['method']} {exchange['path']} {status}"
        path = urlsplit(exchange["path"]).path
        key = next((key for key, (pattern, _) in operations.items() if key[1:] == (method, status) and pattern.fullmatch(path)), None)
        if key is None:
            faults.append(f"{where}: is not in the document: {exchange['body'][:100]}")
            continue
        seen.add(key)
        response = operations[key][1]
        headers = exchange["headers"]
        for name, header in response.get("headers", {}).items():
            if name in headers:
                fits(headers[name], header["schema"], f"{where}, {name}")
            elif header["required"]:
                faults.append(f"{where}: has no {name}")
        content = response.get("content")
        kind = headers.get("content-type", "").split(";")[0]
        if content is None:
            if exchange["body"]:
                faults.append(f"{where}: has a body: {exchange['body'][:100]}")
        elif kind not in content:
            faults.append(f"{where}: the document does not have the type {kind!r}")
        else:
            body = json.loads(exchange["body"]) if kind.endswith("json") else exchange["body"]
            fits(body, content[kind]["schema"], f"{where}, body")
    for key in sorted(operations.keys() - seen):
        if key[2] not in ELSEWHERE:
            faults.append(f"{key[1]} {key[0]} {key[2]}: is in the document, and nothing answered it")
    print(f"{len(exchanges)} exchanges, {len(seen)} responses, {len(faults)} faults")
    print("\n".join(faults))
    sys.exit(bool(faults))


main()
