"""Runs the EnvoyFilter of k8s/overlays/istio-filter in Envoy: istio_filter.py ENVOY MODULE DOORWARD KUSTOMIZE REPOSITORY.

Istio does not run here. This applies the patches as Istio documents them to what matters of a gateway's configuration, and delivers
clusters and listeners as a control plane would, after the bootstrap. Doorward runs with the settings of the overlay.
"""

import json, os, pathlib, shutil, subprocess, sys, tempfile
import yaml

import inside
import spine
from faults import check, conclude
from isolation import add_names, isolate
from replica import Doorward, end

ENVOY, MODULE, DOORWARD, KUSTOMIZE, HERE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
NAME = "istio-filter"
PORT, SERVICE = 8080, 8081
MANAGER = "envoy.filters.network.http_connection_manager"
TYPES = "type.googleapis.com/envoy"


def one(objects, kind, name):
    found = [thing for thing in objects if thing["kind"] == kind and thing["metadata"]["name"] == name]
    check(len(found) == 1, f"{kind} {name}: {found}")
    return found[0]


def cluster(name, port):
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}}


def http_filter(name, message):
    return {"name": name, "typed_config": {"@type": f"{TYPES}.extensions.filters.http.{message}"}}


class Gateway:
    """The configuration of an Envoy of Istio's Gateway, with the settings of mesh-config.yaml."""

    def __init__(self, mesh):
        hops = mesh["defaultConfig"]["gatewayTopology"]["numTrustedProxies"]
        check(mesh["pathNormalization"]["normalization"] == "MERGE_SLASHES", f"paths: {mesh}")
        self.filters = [http_filter("envoy.filters.http.cors", "cors.v3.Cors"), http_filter("envoy.filters.http.router", "router.v3.Router")]
        self.clusters = [cluster("outbound|8081||service.default.svc.cluster.local", SERVICE)]
        route = {"match": {"prefix": "/"}, "route": {"cluster": self.clusters[0]["name"], "timeout": "0s"}}
        self.manager = {
            "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "edge",
            "use_remote_address": True,
            "xff_num_trusted_hops": hops,
            "normalize_path": True,
            "merge_slashes": True,
            "http_filters": self.filters,
            "route_config": {"virtual_hosts": [{"name": "service", "domains": [spine.HOST], "routes": [route]}]},
        }
        self.bootstrap = {"node": {"id": "router~edge", "cluster": "edge.default"}}

    def patch(self, patch):
        """Applies a patch of an EnvoyFilter."""
        value, operation = patch["patch"]["value"], patch["patch"]["operation"]
        match = patch.get("match", {})
        check(match.get("context") in ("GATEWAY", None), f"not for gateways: {patch}")
        kind = patch["applyTo"]
        if (kind, operation) == ("CLUSTER", "ADD"):
            self.clusters.append(value)
        elif (kind, operation) == ("HTTP_FILTER", "INSERT_BEFORE"):
            chain = match["listener"]["filterChain"]["filter"]
            check(chain["name"] == MANAGER, f"not in the chain: {chain}")
            places = [place for place, known in enumerate(self.filters) if known["name"] == chain["subFilter"]["name"]]
            check(len(places) == 1, f"not before a filter: {chain}")
            self.filters.insert(places[0], value)
        elif (kind, operation) == ("BOOTSTRAP", "MERGE"):
            check(not value.keys() & self.bootstrap.keys(), f"nothing here merges {list(value)}")
            self.bootstrap |= value
        else:
            check(False, f"unknown: {kind} {operation}")

    def write(self, folder):
        """Writes the files that Envoy reads; returns the one of the bootstrap."""
        chain = {"filters": [{"name": MANAGER, "typed_config": self.manager}]}
        address = {"socket_address": {"address": "127.0.0.1", "port_value": PORT}}
        listeners = [{"name": "edge", "address": address, "filter_chains": [chain]}]
        dynamic = {}
        for kind, message, resources in (("cds", "cluster.v3.Cluster", self.clusters), ("lds", "listener.v3.Listener", listeners)):
            every = [{"@type": f"{TYPES}.config.{message}"} | resource for resource in resources]
            (folder / f"{kind}.json").write_text(json.dumps({"resources": every}))
            dynamic[f"{kind}_config"] = {"path_config_source": {"path": str(folder / f"{kind}.json")}, "resource_api_version": "V3"}
        path = folder / "bootstrap.json"
        path.write_text(json.dumps(self.bootstrap | {"dynamic_resources": dynamic}))
        return path


class Envoy:
    def __init__(self, folder, objects, patches, mesh):
        gateway = Gateway(mesh)
        for patch in patches:
            gateway.patch(patch)
        options = one(objects, "ConfigMap", "edge-options")
        pod = yaml.safe_load(options["data"]["deployment"])["spec"]["template"]["spec"]
        check(pod["volumes"][0]["name"] == pod["containers"][0]["volumeMounts"][0]["name"], f"volumes: {pod}")
        check(pod["containers"][0]["volumeMounts"][0]["mountPath"] == inside.MOUNT, f"mounts: {pod}")
        variables = {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}
        check(variables["BOOTSTRAP_XDS_AGENT"] == "true", f"Istio would not patch the bootstrap: {variables}")
        search = variables["ENVOY_DYNAMIC_MODULES_SEARCH_PATH"]
        check(search == os.path.dirname(inside.LIBRARY), f"the library is not in {search}")
        # What the volume has in the pod.
        library = folder / "library"
        library.mkdir()
        (library / os.path.basename(inside.LIBRARY)).symlink_to(MODULE)
        self.log = folder / "envoy.log"
        command = [ENVOY, "--config-path", gateway.write(folder), "--concurrency", "2", "--disable-hot-restart"]
        with open(self.log, "w") as log:
            environment = {"PATH": "/usr/bin:/bin", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(library)}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def listens(self):
        check(self.process.poll() is None, f"Envoy ended: {self.log.read_text()[-3000:]}")
        return spine.status(PORT, "/") is not None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)


def main():
    isolate()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="doorward-istio-filter-"))
    try:
        ran = subprocess.run([KUSTOMIZE, HERE / "k8s/overlays" / NAME], capture_output=True, text=True, check=True)
        objects = list(yaml.safe_load_all(ran.stdout))
        check(not [thing for thing in objects if thing["kind"] == "AuthorizationPolicy"], "there is an AuthorizationPolicy")
        mesh = yaml.safe_load((HERE / "k8s/overlays/istio/mesh-config.yaml").read_text())["spec"]["meshConfig"]
        patches = one(objects, "EnvoyFilter", "doorward")["spec"]["configPatches"]
        service = spine.Service(SERVICE)
        add_names("127.0.0.1", [inside.HOST], folder)
        doorward = Doorward(DOORWARD, folder, objects)
        doorward.stop()
        with Envoy(folder, objects, patches, mesh) as envoy:
            inside.held(envoy.log, envoy.listens, doorward)
            spine.until(envoy.listens, "Envoy listens", envoy.log.read_text)
            inside.judged(NAME, PORT, service, doorward)
        # The test can fail: without the filter, nobody judges.
        own = folder / "open"
        own.mkdir()
        with Envoy(own, objects, [patch for patch in patches if patch["applyTo"] != "HTTP_FILTER"], mesh) as envoy:
            spine.until(envoy.listens, "Envoy listens", envoy.log.read_text)
            passed = spine.status(PORT, "/profile")
            check(passed == 200, f"without the filter, the answer is {passed}")
        doorward.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    conclude("Envoy guards the service with the patches for Istio.")


main()
