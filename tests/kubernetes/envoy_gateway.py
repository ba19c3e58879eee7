"""Runs the overlays of Envoy Gateway: envoy_gateway.py ENVOY-GATEWAY ENVOY MODULE DOORWARD KUSTOMIZE REPOSITORY.

Envoy Gateway translates the overlays in its host mode and starts Envoy; Doorward runs with the settings of the overlay. What host
mode cannot do is replaced: Backends with addresses stand for Services, a file on this machine for the library in the pod, and the
rows are in SQLite. Envoy Gateway uses fixed ports, so everything runs in a network of its own, from which nothing can be fetched.
"""

import json, pathlib, shutil, subprocess, sys, tempfile
import yaml

import inside
import spine
from faults import check, conclude
from isolation import add_names, isolate
from replica import PASSWORDS, Doorward, end

GATEWAY, ENVOY, MODULE, DOORWARD, KUSTOMIZE, HERE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
VERSION = ENVOY.parent.name.removeprefix("envoy-")
# Not 8081, which belongs to Envoy Gateway.
SERVICE = 8090
PORTS = {"doorward": {9001: 9001, 9002: 9002}, "service": {8081: SERVICE}}
API = "gateway.envoyproxy.io/v1alpha1"
HOST = {"type": "Host", "host": {"envoyVersion": VERSION}}


def rendered(overlay):
    ran = subprocess.run([KUSTOMIZE, HERE / "k8s/overlays" / overlay], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(ran.stdout))


def backends(thing):
    """Makes references to Services references to Backends."""
    if isinstance(thing, list):
        return [backends(one) for one in thing]
    if not isinstance(thing, dict):
        return thing
    if thing.get("name") in PORTS and "port" in thing:
        return {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": f"{thing['name']}-{thing['port']}"}
    return {name: backends(value) for name, value in thing.items()}


def on_this_machine(proxy):
    """An EnvoyProxy of the overlay, for host mode."""
    mount = proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"]["container"]["volumeMounts"][0]["mountPath"]
    check(mount == inside.MOUNT, f"the library is not in {mount}")
    text = json.dumps(proxy)
    # Envoy Gateway's registration, and the bootstrap extension.
    check(text.count(inside.LIBRARY) == 2, f"the library: {text}")
    proxy = json.loads(text.replace(inside.LIBRARY, str(MODULE)))
    proxy["spec"]["provider"] = HOST
    return proxy


def resources(objects):
    """What Envoy Gateway reads: the objects of the overlay for gateways, and what host mode needs."""
    kept = [thing for thing in objects if thing["apiVersion"].split("/")[0] in ("gateway.networking.k8s.io", "gateway.envoyproxy.io")]
    check({"Gateway", "HTTPRoute", "ClientTrafficPolicy"} <= {thing["kind"] for thing in kept}, f"kinds: {kept}")
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "eg"},
        "spec": {
            "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
            "parametersRef": {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "host", "namespace": "default"},
        },
    }
    yield {"apiVersion": API, "kind": "EnvoyProxy", "metadata": {"name": "host", "namespace": "default"}, "spec": {"provider": HOST}}
    for service, ports in PORTS.items():
        for port, real in ports.items():
            spec = {"endpoints": [{"ip": {"address": "127.0.0.1", "port": real}}]}
            if port == 9001:
                # As the Service says of this port.
                spec["appProtocols"] = ["gateway.envoyproxy.io/h2c"]
            yield {"apiVersion": API, "kind": "Backend", "metadata": {"name": f"{service}-{port}", "namespace": "default"}, "spec": spec}
    for thing in kept:
        yield on_this_machine(thing) if thing["kind"] == "EnvoyProxy" else backends(thing)


class EnvoyGateway:
    def __init__(self, folder, objects, meanwhile=None):
        """`meanwhile` runs before Envoy must listen."""
        self.folder, self.meanwhile = folder, meanwhile
        home = folder / "home"
        (home / "data/envoy-versions" / VERSION / "bin").mkdir(parents=True)
        # Where this is, no other Envoy is fetched.
        (home / "data/envoy-versions" / VERSION / "bin/envoy").symlink_to(ENVOY)
        (folder / "resources").mkdir()
        (folder / "resources/all.yaml").write_text(yaml.safe_dump_all(resources(objects)))
        host = {name: str(home / name.removesuffix("Home").removesuffix("Dir")) for name in ("configHome", "dataHome", "stateHome", "runtimeDir")}
        settings = {
            "apiVersion": API,
            "kind": "EnvoyGateway",
            "gateway": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
            "provider": {
                "type": "Custom",
                "custom": {
                    "resource": {"type": "File", "file": {"paths": [str(folder / "resources")]}},
                    "infrastructure": {"type": "Host", "host": host},
                },
            },
            "extensionApis": {"enableBackend": True},
        }
        (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
        certificates = [GATEWAY, "certgen", "--local", "--config-home", host["configHome"]]
        subprocess.run(certificates, check=True, capture_output=True, env=environment)
        self.log = folder / "gateway.log"
        with open(self.log, "w") as log:
            server = [GATEWAY, "server", "--config-path", folder / "gateway.yaml"]
            self.process = subprocess.Popen(server, stdout=log, stderr=log, env=environment)

    def __enter__(self):
        try:
            if self.meanwhile:
                self.meanwhile(self)
            self.port = spine.until(self.listening, "Envoy listens", lambda: self.log.read_text()[-4000:])
        except BaseException:
            self.__exit__()
            raise
        return self

    def listening(self):
        check(self.process.poll() is None, "Envoy Gateway ended")
        return next((port for port in (80, 10080) if spine.status(port, "/") not in (None, 404)), None)

    def __exit__(self, *_):
        end(self.process)
        # Envoy is a child of Envoy Gateway and ends with it.
        spine.until(lambda: all(spine.status(port, "/") is None for port in (80, 10080)), "Envoy ends")


def edited(objects, change):
    """The objects with another SecurityPolicy `doorward`."""
    objects = json.loads(json.dumps(objects))
    for thing in objects:
        if thing["kind"] == "SecurityPolicy" and thing["metadata"]["name"] == "doorward":
            change(thing["spec"]["extAuth"])
    return objects


def asked(name, folder, service):
    """An overlay whose Envoy asks Doorward about every request."""
    own = folder / name
    own.mkdir()
    objects = rendered(name)
    doorward = Doorward(DOORWARD, own, objects)
    with EnvoyGateway(own, objects) as gateway:
        spine.guarded(name, gateway.port, service, PASSWORDS, doorward)
        doorward.stop()
        spine.refused_without_doorward(name, gateway.port, service, PASSWORDS, doorward)
    # The test can fail: with failOpen, requests pass while Doorward is down.
    own = folder / f"{name}-open"
    own.mkdir()
    open_ = edited(objects, lambda auth: auth.update(failOpen=True))
    doorward.stop()
    with EnvoyGateway(own, open_) as gateway:
        passed = spine.status(gateway.port, "/profile")
        check(passed == 200, f"{name}: with failOpen and without Doorward, the answer is {passed}")


def with_module(name, folder, service):
    """The overlay with the module in Envoy."""
    own = folder / name
    own.mkdir()
    objects = rendered(name)
    check(not [thing for thing in objects if thing["kind"] == "SecurityPolicy"], f"{name}: there is a SecurityPolicy")
    add_names("127.0.0.1", [inside.HOST], own)
    doorward = Doorward(DOORWARD, own, objects)
    doorward.stop()
    with EnvoyGateway(own, objects, lambda gateway: inside.held(gateway.log, gateway.listening, doorward)) as gateway:
        inside.judged(name, gateway.port, service, doorward)
    for change, kept, expected in (
        # The test can fail: without the policy, nobody judges.
        ("open", [thing for thing in objects if thing["kind"] != "EnvoyExtensionPolicy"], 200),
        # A policy that Envoy Gateway refuses does not open its routes.
        ("unknown", json.loads(json.dumps(objects).replace('"filterName": "doorward", "name": "doorward"', '"name": "other"')), 500),
    ):
        check(kept != objects, f"{name}-{change}: nothing changes")
        own = folder / f"{name}-{change}"
        own.mkdir()
        with EnvoyGateway(own, kept) as gateway:
            answer = spine.status(gateway.port, "/profile")
            check(answer == expected, f"{name}-{change}: {answer} instead of {expected}")
    doorward.stop()


def main():
    isolate()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="doorward-envoy-gateway-"))
    try:
        service = spine.Service(SERVICE)
        for name in ("envoy-gateway", "envoy-gateway-http"):
            asked(name, folder, service)
        with_module("envoy-gateway-filter", folder, service)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    conclude("Envoy Gateway guards the service with every overlay.")


main()
