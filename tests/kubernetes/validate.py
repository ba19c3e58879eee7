"""Usage: validate.py VERSION FOLDER < MANIFESTS

Holds every object against the strict schema of that version of Kubernetes or, where it is of a kind that others define,
against the one in FOLDER. An object that nothing describes is a fault. Says every fault; status 1 where there is one.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

# Built-in kinds are in groups without a dot or in these; every other group that ends in k8s.io belongs to a CRD.
BUILT_IN = {
    "admissionregistration.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io", "scheduling.k8s.io",
    "storage.k8s.io",
}


def faults(version, schemas, thing):
    group, _, _ = thing["apiVersion"].rpartition("/")
    if "." not in group or group in BUILT_IN:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as fault:
            yield "%s: %s" % (".".join(map(str, fault.absolute_path)), fault.message)
        except kubernetes_validate.SchemaNotFoundError as fault:
            yield fault.message
        return
    known = [
        schema
        for schema in schemas
        if schema["properties"]["kind"]["const"] == thing["kind"]
        and schema["properties"]["apiVersion"]["const"] == thing["apiVersion"]
    ]
    if not known:
        yield "no schema describes it"
    for schema in known:
        for fault in jsonschema.Draft202012Validator(schema).iter_errors(thing):
            yield "%s: %s" % (".".join(map(str, fault.absolute_path)), fault.message)


def main():
    version, folder = sys.argv[1:]
    schemas = [json.loads(file.read_text()) for file in sorted(pathlib.Path(folder).glob("*.json"))]
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)
    things = [thing for thing in yaml.safe_load_all(sys.stdin) if thing]
    if not things:
        sys.exit("there is no object")
    found = 0
    for thing in things:
        name = "%s %s" % (thing["kind"], thing.get("metadata", {}).get("name", "-"))
        for fault in faults(version, schemas, thing):
            print("%s: %s" % (name, fault))
            found += 1
    print("%d objects, %d faults" % (len(things), found))
    sys.exit(found > 0)


main()
