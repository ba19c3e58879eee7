"""Applies all manifests to an API server: cluster.py PROGRAMS CRDS HELM KUSTOMIZE REPOSITORY.

Every overlay, alone and with the components, and the chart: accepted without a warning, idempotent, upgraded from an earlier
version, deleted without a rest. The server also judges the pods that controllers would create, and refuses broken manifests.
"""

import json, os, pathlib, re, shlex, shutil, subprocess, sys, tempfile
import yaml

import release
from apiserver import ApiServer
from faults import check, conclude

PROGRAMS, CRDS, HELM, KUSTOMIZE, HERE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
OVERLAYS = HERE / "k8s/overlays"
COMPONENTS = HERE / "k8s/components"

# Where, what is written instead of what, and what the server says about it.
BROKEN = [
    ("production", "readOnlyRootFilesystem:", "readOnlyRootFilesystm:", "readOnlyRootFilesystm"),
    ("production", "maxUnavailable: 1", "maxUnavailable: many", "maxUnavailable"),
    ("production", "cidr: 192.0.2.10/32", "cidr: mysql", "cidr"),
    ("production", "averageUtilization: 70", "averageUtilization: -1", "averageUtilization"),
    ("production+monitoring+probe", "interval: 30s", "interval: soon", "interval"),
    ("production+monitoring+probe", "schedule: '*/10 * * * *'", "schedule: often", "schedule"),
    ("envoy-gateway", "    grpc:\n", "    http: {backendRefs: [{name: doorward}]}\n    grpc:\n", "only one of grpc or http"),
    ("envoy-gateway", "escapedSlashesAction: RejectRequest", "escapedSlashesAction: Reject", "escapedSlashesAction"),
    ("envoy-gateway-http", "type: RegularExpression", "type: Regex", "type"),
    ("envoy-gateway-filter", "type: Local", "type: Remote", "remote field needs to be set"),
    ("envoy-gateway-filter", "type: Merge", "type: Add", "type"),
    ("gateway-api", "protocol: GRPC", "protocol: TCP", "protocol"),
    ("gateway-api", "grpc: {}", "forwardBody: {maxSize: 1}", "grpc must be specified"),
    ("istio", "action: CUSTOM", "action: ASK", "action"),
    ("istio-filter", "applyTo: HTTP_FILTER", "applyTo: FILTER", "applyTo"),
    ("istio-filter", "operation: INSERT_BEFORE", "operation: BEFORE", "operation"),
    ("ingress-nginx", "pathType: Exact", "pathType: Exactly", "pathType"),
]

# What the level `restricted` forbids: in a pod, or in its containers.
FORBIDDEN = [
    ("pod", {"hostNetwork": True}, "hostNetwork"),
    ("container", {"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
    ("container", {"capabilities": {"drop": []}}, "capabilities"),
    ("container", {"runAsNonRoot": False}, "runAsNonRoot"),
    ("container", {"seccompProfile": {"type": "Unconfined"}}, "seccompProfile"),
]


def rendered(folder):
    ran = subprocess.run([KUSTOMIZE, folder], capture_output=True, text=True)
    check(ran.returncode == 0, f"{folder}: {ran.stderr}")
    return ran.stdout


def with_components(name, components, folder):
    """An overlay of one's own, as the comments of the components say."""
    own = folder / "-".join([name, *components])
    own.mkdir()

    def relative(path):
        return os.path.relpath(path, own)

    parts = {"resources": [relative(OVERLAYS / name)], "components": [relative(COMPONENTS / one) for one in components]}
    (own / "kustomization.yaml").write_text(yaml.safe_dump({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"} | parts))
    return rendered(own)


def objects(text):
    return [thing for thing in yaml.safe_load_all(text) if thing]


def changed(one, other):
    return [(name, one.get(name), other.get(name)) for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


def without_namespaces(text):
    """No controller is there that would empty a namespace and remove it."""
    return yaml.safe_dump_all(thing for thing in objects(text) if thing["kind"] != "Namespace")


def prepare(server, text):
    """Creates the namespaces, and what a controller puts into each."""
    spaces = yaml.safe_dump_all(thing for thing in objects(text) if thing["kind"] == "Namespace")
    if spaces.strip():
        fault = server.submit(spaces)
        check(not fault, f"namespace: {fault}")
    for space in {thing["metadata"]["namespace"] for thing in objects(text) if "namespace" in thing["metadata"]}:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": space}}
        fault = server.submit(json.dumps(account))
        check(not fault, f"account in {space}: {fault}")


def pods(text):
    """The pods that controllers would create."""
    for thing in objects(text):
        spec = thing.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        template = thing if thing["kind"] == "Pod" else spec.get("template", {})
        if "containers" not in template.get("spec", {}):
            continue
        pod = json.loads(json.dumps(template["spec"]))
        for claim in spec.get("volumeClaimTemplates", []):
            name = claim["metadata"]["name"]
            pod.setdefault("volumes", []).append({"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}})
        labels = template["metadata"].get("labels", {}) | {"pod-template-hash": "0"}
        metadata = {"name": f"{thing['metadata']['name']}-pod", "namespace": thing["metadata"].get("namespace", "doorward"), "labels": labels}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def admitted(server, text, what):
    """Submits the pods, and from restricted namespaces also pods that must be refused. Returns the number of refusals."""
    good, bad = list(pods(text)), []
    for pod in good:
        labels = server.namespace_labels(pod["metadata"]["namespace"])
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            continue
        for number, (place, change, word) in enumerate(FORBIDDEN):
            wrong = json.loads(json.dumps(pod))
            wrong["metadata"]["name"] += f"-{number}"
            if place == "pod":
                wrong["spec"].update(change)
            else:
                wrong["spec"]["containers"][0].setdefault("securityContext", {}).update(change)
            bad.append((wrong, word))

    def create(every):
        listed = {"apiVersion": "v1", "kind": "List", "items": every}
        return server.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", given=json.dumps(listed))

    ran = create(good)
    check(ran.returncode == 0 and not ran.stderr, f"{what}: not admitted: {ran.stderr}")
    check(len(ran.stdout.splitlines()) == len(good), f"{what}: admitted: {ran.stdout}")
    if bad:
        ran = create([pod for pod, _ in bad])
        check(not ran.stdout, f"{what}: admitted: {ran.stdout}")
        for pod, word in bad:
            lines = [line for line in ran.stderr.splitlines() if f'"{pod["metadata"]["name"]}" is forbidden: violates PodSecurity' in line]
            check(any(word in line for line in lines), f"{what}: {pod['metadata']['name']} is not refused for {word}: {lines}")
    return len(bad)


def overlay(server, name, text):
    prepare(server, text)
    before = server.everything()
    earlier = text.replace("doorward:0.1.0", "doorward:0.0.9").replace('"/healthz"', '"/health"')
    earlier = re.sub(r"(name: doorward)-\w{10}\b", r"\1-earlier000", earlier)
    check(earlier != text, f"{name}: there is nothing to upgrade")
    fault = server.submit(earlier)
    check(not fault, f"{name}: an earlier version: {fault}")
    if jobs := [thing["metadata"]["name"] for thing in objects(text) if thing["kind"] == "Job"]:
        # As docs/kubernetes.md says. The controller removes a Job two minutes after its end.
        fault = server.submit(text)
        check("field is immutable" in fault and fault.count("is invalid") == len(jobs), f"{name}: with the earlier Jobs: {fault}")
        server.kubectl("delete", "job", *jobs, "-n", "doorward")
    fault = server.submit(text)
    check(not fault, f"{name}: the upgrade: {fault}")
    upgraded, versions = server.content(text), server.versions(text)
    check(len(versions) == len(objects(text)), f"{name}: {sorted(versions)}")
    fault = server.submit(text)
    check(not fault, f"{name}: again: {fault}")
    differ = changed(versions, server.versions(text))
    check(not differ, f"{name}: applying it again changes {differ}")
    refused = admitted(server, text, name)

    def delete(*every):
        for manifests in every:
            ran = server.kubectl("delete", "--ignore-not-found", "--timeout=60s", "-f", "-", given=without_namespaces(manifests))
            check(ran.returncode == 0, f"{name}: delete: {ran.stderr}")
        left = server.everything() - before
        check(not left, f"{name}: left: {sorted(left)}")

    delete(text, earlier)
    fault = server.submit(text)
    check(not fault, f"{name}: afresh: {fault}")
    differ = changed(upgraded, server.content(text))
    check(not differ, f"{name}: the upgrade gives other objects than a new installation: {differ}")
    delete(text)
    print(f"{name}: {len(versions)} objects, {len(list(pods(text)))} pods, {refused} pods refused", flush=True)


def documented(server, section, folder):
    """Runs the commands of a section of docs/kubernetes.md; `kubectl apply` twice."""
    text = (HERE / "docs/kubernetes.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    commands = text.split("```text\n")[1].split("```")[0].replace("\\\n", " ").splitlines()
    check(len(commands) > 2, f"{section}: {commands}")
    (folder / "FILE").write_text("a password")
    for command in commands:
        program, *arguments = shlex.split(re.sub(r"=FILE\b", f"={folder}/FILE", command))
        if program == "doorward":
            environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
            ran = subprocess.run([os.environ["DOORWARD"], *arguments], capture_output=True, text=True, cwd=folder, env=environment)
            check(ran.returncode == 0, f"{command}: {ran.stderr}")
            continue
        ran = getattr(server, program)(*arguments, folder=folder)
        check(ran.returncode == 0 and not ran.stderr, f"{command}: {ran.stderr}")
        if arguments[0] == "apply":
            manifests = server.kubectl(*arguments, "--dry-run=client", "-o", "yaml", folder=folder).stdout
            # Not the versions: they count a change of who manages a field.
            content = server.content(manifests)
            ran = server.kubectl(*arguments, folder=folder)
            check(ran.returncode == 0 and not ran.stderr, f"{command}, again: {ran.stderr}")
            differ = changed(content, server.content(manifests))
            check(content and not differ, f"{command}, again: changes {differ}")
    print(f"docs/kubernetes.md, {section}: {len(commands)} commands", flush=True)


def guide(server, folder):
    """The commands of docs/kubernetes.md, in namespaces that are as new as those of its readers."""
    for link in ("k8s", "charts"):
        (folder / link).symlink_to(HERE / link)
    with release.kubelet(server, succeeds=True) as ended:
        for section in ("Production", "With Helm"):
            server.remove_namespace("doorward")
            server.kubectl("delete", "priorityclass", "doorward", "--ignore-not-found")
            documented(server, section, folder)
        check(ended == ["Job doorward-migrate", "Job doorward-migrate", "Pod doorward-test"], f"ended: {ended}")
    documented(server, "Behind a gateway", folder)


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="doorward-cluster-"))
    try:
        with ApiServer(PROGRAMS, HELM, folder) as server:
            for crds in sorted(CRDS.glob("*.yaml")):
                fault = server.kubectl("apply", "--server-side", "-f", crds).stderr
                check(not fault, f"{crds.name}: {fault}")
            ran = server.kubectl("wait", "--for=condition=Established", "--timeout=120s", "crd", "--all")
            check(ran.returncode == 0 and len(ran.stdout.splitlines()) > 30, f"CRDs: {ran.stdout} {ran.stderr}")

            texts = {one.name: rendered(one) for one in sorted(OVERLAYS.iterdir())}
            texts["production+monitoring+probe"] = with_components("production", ["monitoring", "probe"], folder)
            for name, text in texts.items():
                overlay(server, name, text)
            for name, old, new, word in BROKEN:
                broken = texts[name].replace(old, new)
                check(broken != texts[name], f"{name}: there is no {old}")
                fault = server.submit(broken, "--dry-run=server")
                check(word in fault, f"{name}: {new} is accepted, or the fault does not name {word}: {fault}")
            print(f"{len(BROKEN)} broken manifests are refused", flush=True)
            release.check_release(server, HERE / "charts/doorward", lambda text, what: admitted(server, text, what))
            guide(server, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    conclude("The API server accepts everything.")


main()
