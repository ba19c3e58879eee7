"""Checks the Helm chart: chart.py HELM KUSTOMIZE REPOSITORY.

Lints it, renders it in all its forms, validates every object against the schemas of Kubernetes, checks that wrong values are
refused, and compares it with the kustomize overlay `production`: every difference must be one of
tests/kubernetes/chart-differences.txt.
With DOORWARD_GOLDEN=write in the environment, that file is written again.
"""

import json, os, pathlib, subprocess, sys, tempfile, tomllib
import yaml

HELM, KUSTOMIZE, HERE = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
CHART = HERE / "charts/doorward"
LIST = HERE / "tests/kubernetes/chart-differences.txt"
KUBERNETES = "1.37"

faults = []


def check(holds, what):
    if not holds:
        faults.append(what)


def run(*command, given=None):
    # A variable DOORWARD_* would be a setting of Doorward.
    env = {name: value for name, value in os.environ.items() if not name.startswith("DOORWARD")}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, input=given, env=env)


def template(*settings, release="doorward"):
    """The objects of the chart, and what Helm says about it."""
    ran = run(HELM, "template", release, CHART, "--namespace", "doorward", "--kube-version", f"{KUBERNETES}.0", *settings)
    return ran.stdout, ran.stderr, ran.returncode


def rendered(*settings, release="doorward"):
    out, said, status = template(*settings, release=release)
    check(status == 0, f"helm template {settings}: {said}")
    return out


def objects(text):
    return [thing for thing in yaml.safe_load_all(text) if thing]


def valid(text, what):
    ran = run(sys.executable, HERE / "tests/kubernetes/validate.py", KUBERNETES, HERE / "tests/kubernetes/schemas", given=text)
    check(ran.returncode == 0, f"{what}: {ran.stdout}{ran.stderr}")


def sets(*pairs):
    return [part for pair in pairs for part in ("--set", pair)]


def leaves(thing, path=""):
    """Each value with its place; lists of things with names are read by name."""
    if isinstance(thing, dict) and thing:
        for key, value in thing.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(thing, list) and thing:
        named = all(isinstance(one, dict) and "name" in one for one in thing)
        for at, value in enumerate(thing):
            yield from leaves(value, f"{path}[{value['name'] if named else at}]")
    else:
        yield path, thing


def by_place(text):
    found = {}
    for thing in objects(text):
        kind, name = thing["kind"], thing["metadata"]["name"]
        # kustomize names the ConfigMap after its content.
        if kind == "ConfigMap":
            name = "doorward"
        for place, value in leaves(thing):
            if place.endswith("configMap.name"):
                value = "doorward"
            # Comments and the order of settings have no effect.
            if place == "data.doorward.toml":
                for inner, value in leaves(tomllib.loads(value)):
                    found[f"{kind}/{name} doorward.toml: {inner}"] = value
                continue
            found[f"{kind}/{name} {place}"] = value
    return found


def differences():
    overlay = run(KUSTOMIZE, HERE / "k8s/overlays/production")
    check(overlay.returncode == 0, overlay.stderr)
    theirs, ours = by_place(overlay.stdout), by_place(rendered())
    check(len(theirs) > 150 and len(ours) > 150, f"too little was read: {len(theirs)}, {len(ours)}")
    for place in sorted(theirs.keys() | ours.keys()):
        one, other = theirs.get(place, "-"), ours.get(place, "-")
        if place.endswith("checksum/settings"):
            other = "a digest"
        # Helm names its own objects by labels and puts them into the namespace of the release; kustomize names a ConfigMap
        # after its content.
        place_of = place.split(" ", 1)[1]
        if place_of.startswith("metadata.labels.") or place_of == "metadata.namespace" or place == "ConfigMap/doorward metadata.name":
            continue
        if one != other:
            yield f"{place}: {one} -> {other}"


FORMS = {
    "all": sets("serviceMonitor.enabled=true", "envoyGateway.enabled=true", "externalAuth.enabled=true", "istio.enabled=true"),
    "http": sets("externalAuth.enabled=true", "externalAuth.protocol=HTTP"),
    "small": sets(
        "autoscaling.enabled=false", "podDisruptionBudget.enabled=false", "priorityClass.create=false", "priorityClass.name=", "migrate.enabled=false",
        "networkPolicy.enabled=false", "existingKeysSecret=", "image.pullSecrets[0].name=registry", "podLabels.team=web",
    ),
    "postgres": sets("database.engine=postgres", "database.host=db.example.com", "database.user=a@b", "networkPolicy.database.port=5432"),
}

WRONG = [
    ("replicas=many", "replicas"),
    ("image.tag=latest", "tag"),
    ("extraRoutes[0].path=/x", "allow"),
    ("extraRoutes[0].path=x,extraRoutes[0].allow=public", "path"),
    ("extraRoutes[0].path=/x,extraRoutes[0].allow=publik", "allow"),
    ("existingSecrets=other", "existingSecrets"),
    ("database.password=secret", "password"),
    ("database.engine=oracle", "engine"),
    ("externalAuth.enabled=true,externalAuth.protocol=TCP", "protocol"),
    ("networkPolicy.database.cidr=mysql", "cidr"),
    ("resources.limits.memory=null", "memory"),
    ("priorityClass.name=", "priorityClass"),
]


def main():
    lint = run(HELM, "lint", "--strict", CHART)
    check(lint.returncode == 0, lint.stdout + lint.stderr)

    valid(rendered(), "the usual form")
    for name, settings in FORMS.items():
        text = rendered(*settings)
        valid(text, name)
        for thing in objects(text):
            pod = thing.get("spec", {}).get("template", {}).get("spec") or (thing["spec"] if thing["kind"] == "Pod" else None)
            if pod:
                check(pod["automountServiceAccountToken"] is False, f"{name}: {thing['kind']} has a token")
                check(pod["securityContext"]["runAsNonRoot"] is True, f"{name}: {thing['kind']} may be root")
    kinds = sorted(thing["kind"] for thing in objects(rendered(*FORMS["all"])))
    check(
        {"SecurityPolicy", "ClientTrafficPolicy", "HTTPRoute", "AuthorizationPolicy", "ServiceMonitor", "Pod", "Job"} <= set(kinds),
        f"kinds: {kinds}",
    )
    names = [thing["metadata"]["name"] for thing in objects(rendered(release="login"))]
    check(all(name.startswith(("login-doorward", "doorward")) for name in names), f"names: {names}")

    # A value cannot add settings, whatever it contains.
    route = '{"path": "/x\\"]\\nallow = \\"public", "hosts": ["a<b"], "allow": ["auditor", "admin"]}'
    settings = ["--set-json", f"extraRoutes=[{route}]"]
    maps = [thing for thing in objects(rendered(*settings)) if thing["kind"] == "ConfigMap"]
    last = tomllib.loads(maps[0]["data"]["doorward.toml"])["route"][-1]
    check(last == {"path": '/x"]\nallow = "public', "hosts": ["a<b"], "allow": ["auditor", "admin"]}, f"route: {last}")

    # Every word and every member that a rule can have.
    words = ("keys", "keys-page", "sign-in", "sign-out", "signed-in-page")
    routes = [{"path": f"/{word}", "allow": word} for word in words]
    routes.append({"path": "/repo/*", "allow": "signed-in", "basic-keys": True, "audience": "repo"})
    maps = [thing for thing in objects(rendered("--set-json", f"extraRoutes={json.dumps(routes)}")) if thing["kind"] == "ConfigMap"]
    last = tomllib.loads(maps[0]["data"]["doorward.toml"])["route"][-len(routes):]
    check(last == routes, f"routes: {last}")

    postgres = [thing for thing in objects(rendered(*FORMS["postgres"])) if thing["kind"] in ("Deployment", "Job")]
    for thing in postgres:
        env = {one["name"]: one.get("value") for one in thing["spec"]["template"]["spec"]["containers"][0]["env"]}
        check(env["DATABASE_URL"] == "postgres://a%40b@db.example.com/auth", f"{thing['kind']}: {env}")
        check(env["DOORWARD_DATABASE__PASSWORD_FILE"].endswith("/postgres-password"), f"{thing['kind']}: {env}")
        check(not [name for name in env if name.startswith("MYSQL")], f"{thing['kind']}: {env}")
    check(len(postgres) == 2, f"with postgres: {len(postgres)} objects with an environment")

    for setting, named in WRONG:
        _, said, status = template("--set", setting)
        check(status != 0 and named in said, f"{setting} was accepted, or the fault does not name {named}: {said}")

    found = "".join(f"{line}\n" for line in differences())
    if os.environ.get("DOORWARD_GOLDEN") == "write":
        LIST.write_text(found)
    known = LIST.read_text()
    if found != known:
        missing = set(known.splitlines()) - set(found.splitlines())
        new = set(found.splitlines()) - set(known.splitlines())
        faults.append(f"differences from production that {LIST.name} does not have: {sorted(new)}; that are gone: {sorted(missing)}")

    # Doorward accepts the settings of the chart. Only checked if DOORWARD names the program.
    if program := os.environ.get("DOORWARD"):
        with tempfile.TemporaryDirectory() as folder:
            maps = [thing for thing in objects(rendered()) if thing["kind"] == "ConfigMap"]
            text = maps[0]["data"]["doorward.toml"]
            text = text.replace("/run/secrets/doorward/mysql-ca.pem", f"{folder}/ca.pem").replace("/run/secrets/doorward-keys", f"{folder}/keys")
            pathlib.Path(folder, "keys").mkdir(0o700)
            pathlib.Path(folder, "ca.pem").write_text("")
            pathlib.Path(folder, "doorward.toml").write_text(text)
            base = [program, "--config", f"{folder}/doorward.toml"]
            made = run(*base, "keys", "generate", "ES256")
            check(made.returncode == 0, f"keys generate: {made.stderr}")
            checked = run(*base, "config", "check")
            check(checked.returncode == 0, f"config check: {checked.stderr}")

    if faults:
        sys.exit("\n".join(faults))
    print(f"The chart holds: {len(FORMS) + 1} forms, {len(WRONG)} wrong values, {len(found.splitlines())} differences from production.")


main()
