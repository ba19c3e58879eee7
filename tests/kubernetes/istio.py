"""Runs the overlays of Istio: istio.py PROGRAMS CRDS HELM ISTIO ENVOY MODULE DOORWARD KUSTOMIZE REPOSITORY.

Istio is installed with its own charts and the settings of mesh-config.yaml into an API server with controllers. Its istiod and the
agent of the Gateway's pod run from the pods that those made; Envoy is a stock one, so Istio's filters that it does not have are
turned off. Doorward runs with the settings of the overlay, its rows in SQLite. Everything is in a network of its own.
"""

import json, pathlib, shutil, subprocess, sys, tempfile
import yaml

import inside, pods, spine
from apiserver import ApiServer
from faults import check, conclude
from isolation import isolate
from pods import Container, run
from replica import PASSWORDS, Doorward

PROGRAMS, CRDS, HELM, ISTIO, ENVOY, MODULE, DOORWARD, KUSTOMIZE, HERE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
PORT, SERVICE = 80, 8081
SYSTEM = "istio-system"
# The API server refuses loopback as the address of a pod.
NETWORK, ISTIOD, REPLICA, BACKEND = "10.200.0.0/24", "10.200.0.1", "10.200.0.2", "10.200.0.3"
EDGES = {"istio": "10.200.0.4", "istio-filter": "10.200.0.5"}
NAMES = f"127.0.0.1 localhost\n{ISTIOD} istiod.{SYSTEM}.svc\n{REPLICA} {inside.HOST}\n"
CONTROLLERS = ("deployment", "replicaset", "endpointslice", "serviceaccount", "root-ca-certificate-publisher", "garbage-collector")
# What only Istio's build of Envoy has: filters that describe peers, choose ALPN for sidecars, and count.
WITHOUT = {
    "env": {"PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false"},
    "telemetry": {"enabled": False},
}


def rendered(name):
    return subprocess.run([KUSTOMIZE, HERE / "k8s/overlays" / name], capture_output=True, text=True, check=True).stdout


def surroundings():
    """What is in a cluster beside Istio and the overlay."""
    yield {"apiVersion": "v1", "kind": "Node", "metadata": {"name": pods.NODE}}
    ports = [{"name": "http", "port": SERVICE, "protocol": "TCP"}]
    yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "service", "namespace": "default"}, "spec": {"ports": ports}}
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "service", "namespace": "default", "labels": {"kubernetes.io/service-name": "service"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [BACKEND], "conditions": {"ready": True, "serving": True}}],
        "ports": ports,
    }


def one_pod(server, space, selector, wanted=lambda pod: True):
    def look():
        return [pod for pod in pods.found(server, space, selector) if wanted(pod) and not pod["spec"].get("nodeName")]

    return spine.until(look, f"there is a pod {selector}")[0]


def install(server, folder):
    """Istio, as its documents say."""
    mesh = yaml.safe_load((HERE / "k8s/overlays/istio/mesh-config.yaml").read_text())["spec"]["meshConfig"]
    (folder / "values.yaml").write_text(json.dumps({"meshConfig": mesh} | WITHOUT))
    for name, chart, *options in (("istio-base", "base"), ("istiod", "istio-discovery", "--values", folder / "values.yaml")):
        ran = server.helm("install", name, ISTIO / "charts" / chart, "--namespace", SYSTEM, "--create-namespace", *options)
        check(ran.returncode == 0, f"helm install {name}: {ran.stdout} {ran.stderr}")


def istiod(server, folder):
    pod = pods.placed(server, one_pod(server, SYSTEM, "app=istiod"), ISTIOD)
    return pod, Container(server, pod, folder / "istiod", {"/usr/local/bin/pilot-discovery": ISTIO / "pilot-discovery"}, NAMES)


def validates(server):
    """Istio has told the API server to ask it about objects, and to refuse them otherwise."""
    every = json.loads(run(server, "get", "validatingwebhookconfiguration", "-o", "json"))["items"]
    policies = [hook["failurePolicy"] for thing in every for hook in thing["webhooks"]]
    return policies and all(policy == "Fail" for policy in policies)


def refused(server, text, was, becomes, word):
    check(was in text, f"there is no {was}")
    fault = server.submit(text.replace(was, becomes), "--dry-run=server")
    check("validation.istio.io" in fault and word in fault, f"Istio accepts {becomes}: {fault}")


def apply(server, name, text):
    """Istio warns of each EnvoyFilter; everything else is a fault."""
    said = [line for line in server.submit(text).splitlines() if "EnvoyFilter exposes internal implementation details" not in line]
    check(not said, f"{name}: {said}")


def doorward_is_ready(server):
    pod = one_pod(server, "default", "app.kubernetes.io/name=doorward,app.kubernetes.io/component=server")
    pods.ready(server, pods.placed(server, pod, REPLICA))


def edge(server, folder, name, wanted=lambda pod: True):
    """The agent of the Gateway's pod, with Envoy."""
    pod = one_pod(server, "default", "gateway.networking.k8s.io/gateway-name=edge", wanted)
    pod = pods.placed(server, pod, EDGES[name])
    programs = {
        "/usr/local/bin/pilot-agent": ISTIO / "pilot-agent",
        "/usr/local/bin/envoy": ENVOY,
        "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json": ISTIO / "envoy_bootstrap.json",
    }
    return pod, Container(server, pod, folder / f"{name}-edge", programs, NAMES, MODULE)


def has_begun(server, pod, container):
    spine.until(lambda: container.answers(15021, "/healthz/ready"), "the Gateway's pod is ready", container.log.read_text)
    pods.ready(server, pod)


def passes(what, container):
    """The test can fail: without the object, nobody judges."""
    said = container.log.read_text()
    # Envoy has taken everything that istiod sent.
    check("rejected" not in said, f"Envoy: {said[-4000:]}")
    spine.until(lambda: spine.status(PORT, "/profile") == 200, f"requests pass {what}", container.log.read_text)


def asked(server, folder, service):
    name, own = "istio", folder / "replica-istio"
    own.mkdir()
    text = rendered(name)
    refused(server, text, "  provider:\n    name: doorward\n", "", "provider")
    apply(server, name, text)
    doorward = Doorward(DOORWARD, own, list(yaml.safe_load_all(text)), gateway=NETWORK)
    doorward_is_ready(server)
    pod, container = edge(server, folder, name)
    with container:
        has_begun(server, pod, container)
        spine.until(lambda: spine.status(PORT, "/profile") == 401, f"{name}: Doorward is asked", container.log.read_text)
        spine.guarded(name, PORT, service, PASSWORDS, doorward)
        doorward.stop()
        spine.refused_without_doorward(name, PORT, service, PASSWORDS, doorward)
        run(server, "delete", "authorizationpolicy", "doorward")
        passes("without the policy", container)
    doorward.stop()


def with_module(server, folder, service):
    name, own = "istio-filter", folder / "replica-istio-filter"
    own.mkdir()
    text = rendered(name)
    check("AuthorizationPolicy" not in text, f"{name}: there is an AuthorizationPolicy")
    refused(server, text, "v3.DynamicModuleFilter", "v3.DynamicFilter", "DynamicFilter")
    apply(server, name, text)
    doorward = Doorward(DOORWARD, own, list(yaml.safe_load_all(text)), gateway=NETWORK)
    doorward.stop()

    def merged(pod):
        """Istio has merged the ConfigMap into its Deployment."""
        return [volume for volume in pod["spec"]["volumes"] if "image" in volume]

    pod, container = edge(server, folder, name, merged)
    with container:
        inside.held(container.log, lambda: container.runs() and spine.status(PORT, "/") is not None, doorward)
        has_begun(server, pod, container)
        spine.until(lambda: spine.status(PORT, "/profile") == 401, f"{name}: the module judges", container.log.read_text)
        inside.judged(name, PORT, service, doorward)
        counted = spine.ask(15090, "GET", "/stats/prometheus").text.decode()
        check("envoy_dynamicmodulescustom_doorward_decisions{" in counted, f"{name}: stats: {counted[-3000:]}")
        run(server, "delete", "envoyfilter", "doorward")
        passes("without the EnvoyFilter", container)
    doorward.stop()


def main():
    isolate()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="doorward-istio-"))
    try:
        for address in (ISTIOD, REPLICA, BACKEND, *EDGES.values()):
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        service = spine.Service(SERVICE, BACKEND)
        # The server asks the pods of webhooks, because nothing here routes the addresses of Services.
        with ApiServer(PROGRAMS, HELM, folder, "--enable-aggregator-routing=true") as server:
            server.start_controllers(f"--controllers={','.join(f'{one}-controller' for one in CONTROLLERS)}")
            spine.until(lambda: server.kubectl("get", "configmap", "kube-root-ca.crt").returncode == 0, "the controllers work")
            for text in ((CRDS / "gateway-api.yaml").read_text(), yaml.safe_dump_all(surroundings())):
                apply(server, "surroundings", text)
            install(server, folder)
            pod, container = istiod(server, folder)
            with container:
                spine.until(lambda: container.answers(8080, "/ready"), "istiod is ready", container.log.read_text)
                pods.ready(server, pod)
                spine.until(lambda: validates(server), "Istio validates objects", container.log.read_text)
                asked(server, folder, service)
                with_module(server, folder, service)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    conclude("Istio's gateway guards the service with both overlays.")


main()
