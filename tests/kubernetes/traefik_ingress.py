"""Runs k8s/overlays/ingress-nginx in Traefik: traefik_ingress.py PROGRAMS TRAEFIK DOORWARD KUSTOMIZE REPOSITORY.

Traefik's provider for Ingresses of ingress-nginx reads them from an API server and asks Doorward, which runs with the settings of
the overlay. The test writes the EndpointSlices, which a controller would write, and answers for the names of the cluster's DNS.
"""

import json, pathlib, shutil, subprocess, sys, tempfile
import yaml

import spine
from apiserver import ApiServer
from faults import check, conclude
from isolation import add_address, isolate
from replica import PASSWORDS, Doorward, end

PROGRAMS, TRAEFIK, DOORWARD, KUSTOMIZE, HERE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
# The API server refuses loopback in an EndpointSlice.
ADDRESS = "10.200.0.1"
EDGE, SERVICE = 8080, 8090

RULES = [
    {"apiGroups": [""], "resources": ["services", "secrets", "configmaps", "namespaces", "nodes"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "ingressclasses"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses/status"], "verbs": ["update"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]


def surroundings():
    """What is in a cluster beside the overlay."""
    rbac, role = "rbac.authorization.k8s.io", {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "traefik"}
    subject = {"kind": "ServiceAccount", "name": "traefik", "namespace": "default"}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "traefik", "namespace": "default"}}
    yield {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "traefik"}, "rules": RULES}
    yield {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "traefik"}, "roleRef": role, "subjects": [subject]}
    spec = {"controller": "k8s.io/ingress-nginx"}
    yield {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}, "spec": spec}
    ports = [{"name": "http", "port": 8081, "targetPort": SERVICE}]
    yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "service", "namespace": "default"}, "spec": {"ports": ports}}
    for name, port in (("service", SERVICE), ("doorward", 9002)):
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True, "serving": True}}],
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        }


def settings(server):
    cluster = json.loads(server.kubeconfig.read_text())["clusters"][0]["cluster"]
    ran = server.kubectl("create", "token", "traefik", "-n", "default")
    check(ran.returncode == 0, f"token: {ran.stderr}")
    provider = {
        "endpoint": cluster["server"],
        "token": ran.stdout.strip(),
        "certAuthFilePath": cluster["certificate-authority"],
        "httpEntryPoint": "edge",
        "httpsEntryPoint": "tls",
    }
    return {
        "entryPoints": {"edge": {"address": f"127.0.0.1:{EDGE}"}, "tls": {"address": "127.0.0.1:8443"}},
        "providers": {"providersThrottleDuration": "100ms", "kubernetesIngressNGINX": provider},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "INFO"},
    }


def judged(server, service, doorward):
    name = "traefik"
    expect = spine.expecting(name, EDGE, service)

    anonymous = expect("anonymous", 302, "GET", "/profile")
    check("/sign-in" in (anonymous.headers["location"] or ""), f"{name}: {anonymous.headers}")
    # At the same host, Traefik would ask Doorward about the login: docs/matrix.md.
    bob, ada = (spine.logged_in(9002, user, PASSWORDS[user]) for user in ("bob", "ada"))
    forged = [("x-auth-user", "ada"), ("x-auth-admin", "true"), ("x-auth-roles", "root")]
    for extra in ([], forged):
        answer = expect(f"bob with {extra}", 200, "GET", "/profile", bob, *extra)
        for header, value in zip(spine.IDENTITY, ("bob", "editor", "false")):
            check(answer.seen(header) == [value], f"{name}: {header}: {answer.seen(header)}")
    expect("bob as administrator", 403, "GET", "/admin/users", bob)
    answer = expect("ada as administrator", 200, "GET", "/admin/users", ada)
    check(answer.seen("x-auth-admin") == ["true"], f"{name}: {answer.text}")
    # The client does not choose the rule.
    for header in ("x-original-url", "x-original-uri", "x-forwarded-uri"):
        expect(f"another path in {header}", 403, "GET", "/admin/users", bob, (header, "/healthz"))
    expect("public", 200, "GET", "/healthz")
    spine.uploads(name, EDGE, service, bob)
    spine.downloads(name, EDGE, service, bob)

    doorward.stop()
    expect("without Doorward", 500, "GET", "/profile", bob, arrives=False)
    expect("public, without Doorward", 500, "GET", "/healthz", arrives=False)
    doorward.start()
    expect("with Doorward again", 200, "GET", "/profile", bob)

    # Traefik follows the API server. Without the annotation nobody is asked: the test can fail.
    annotate = ("annotate", "ingress", "service", "-n", "default", "nginx.ingress.kubernetes.io/auth-url-")
    ran = server.kubectl(*annotate)
    check(ran.returncode == 0, f"annotate: {ran.stderr}")
    spine.until(lambda: spine.status(EDGE, "/profile") == 200, f"{name}: without auth-url, requests pass")
    ran = server.kubectl("delete", "ingress", "service", "-n", "default")
    check(ran.returncode == 0, f"delete: {ran.stderr}")
    spine.until(lambda: spine.status(EDGE, "/profile") == 404, f"{name}: the Ingress is gone")


def main():
    isolate()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="doorward-traefik-"))
    try:
        add_address(ADDRESS, ["doorward.default.svc.cluster.local"], folder)
        ran = subprocess.run([KUSTOMIZE, HERE / "k8s/overlays/ingress-nginx"], capture_output=True, text=True, check=True)
        # As docs/gateways/traefik.md says.
        text = ran.stdout.replace("/auth/nginx", "/auth/forward")
        check(text != ran.stdout, "the overlay has no /auth/nginx")
        service = spine.Service(SERVICE, ADDRESS)
        (folder / "doorward").mkdir()
        doorward = Doorward(DOORWARD, folder / "doorward", list(yaml.safe_load_all(text)), gateway=f"{ADDRESS},127.0.0.1")
        with ApiServer(PROGRAMS, "/bin/false", folder) as server:
            for manifests in (yaml.safe_dump_all(surroundings()), text):
                fault = server.submit(manifests)
                check(not fault, f"apply: {fault}")
            (folder / "traefik.yaml").write_text(yaml.safe_dump(settings(server)))
            with open(folder / "traefik.log", "w") as log:
                traefik = subprocess.Popen([TRAEFIK, f"--configfile={folder}/traefik.yaml"], stdout=log, stderr=log)
            try:
                said = (folder / "traefik.log").read_text
                spine.until(lambda: spine.status(EDGE, "/") not in (None, 404), "Traefik has read the Ingresses", said)
                judged(server, service, doorward)
                check("forbidden" not in said(), f"rights: {said()[-2000:]}")
            finally:
                end(traefik)
        doorward.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    conclude("Traefik guards the service with the Ingresses of ingress-nginx.")


main()
