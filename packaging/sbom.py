"""Writes a CycloneDX SBOM of the program: sbom.py TARGET < cargo metadata > SBOM

It lists the crates that are linked into the program for this target, with the checksums of Cargo.lock, and not those that only
build or test it. Its time is SOURCE_DATE_EPOCH, so that it does not depend on when and where it is written.
"""

import json, os, pathlib, sys, tomllib, uuid
from datetime import datetime, timezone


def linked(metadata, root):
    """Ids of crates that the program links, found along normal dependencies."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    seen, todo = {}, [root]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        normal = [
            edge["pkg"] for edge in nodes[name]["deps"] if any(kind["kind"] is None for kind in edge["dep_kinds"])
        ]
        seen[name] = sorted(normal)
        todo += normal
    return seen


def main():
    metadata = json.load(sys.stdin)
    lock = tomllib.loads((pathlib.Path(metadata["workspace_root"]) / "Cargo.lock").read_text())
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
    packages = {one["id"]: one for one in metadata["packages"]}
    root = next(one["id"] for one in metadata["packages"] if one["name"] == "doorward" and one["source"] is None)
    edges = linked(metadata, root)

    def ref(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package, kind="library"):
        found = {
            "type": kind,
            "bom-ref": ref(package),
            "name": package["name"],
            "version": package["version"],
            "purl": ref(package),
            "licenses": [{"expression": package["license"].replace("/", " OR ")}] if package["license"] else [],
        }
        if checksum := checksums.get((package["name"], package["version"])):
            found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return found

    components = sorted((component(packages[name]) for name in edges if name != root), key=lambda one: one["bom-ref"])
    seconds = int(os.environ["SOURCE_DATE_EPOCH"])
    digest = json.dumps([sys.argv[1], components], sort_keys=True)
    json.dump(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
            "version": 1,
            "metadata": {
                "timestamp": datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "component": component(packages[root], "application"),
                "properties": [{"name": "doorward:target", "value": sys.argv[1]}],
            },
            "components": components,
            "dependencies": [
                {"ref": ref(packages[name]), "dependsOn": sorted(ref(packages[other]) for other in edges[name])}
                for name in sorted(edges, key=lambda name: ref(packages[name]))
            ],
        },
        sys.stdout,
        indent=2,
    )
    print()


main()
