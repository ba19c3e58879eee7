"""Usage: validate.py < QUESTION

QUESTION is a JSON object of a "schema" and "documents". Checks that the schema is one, and prints for each document a list
of faults, each with its place, as JSON.
"""

import json
import sys

import jsonschema

question = json.load(sys.stdin)
jsonschema.Draft202012Validator.check_schema(question["schema"])
validator = jsonschema.Draft202012Validator(question["schema"])
answer = [
    ["/%s: %s" % ("/".join(map(str, fault.absolute_path)), fault.message) for fault in validator.iter_errors(document)]
    for document in question["documents"]
]
print(json.dumps(answer))
