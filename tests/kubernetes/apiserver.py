"""An API server of Kubernetes with its etcd on loopback, and kubectl and Helm for it.

There are no nodes, and no controllers unless a test starts them: the server defaults, validates and admits objects.
"""

import json, pathlib, secrets, signal, socket, subprocess, sys, time

from faults import check

# Changes by itself, belongs to the server, or only repeats other kinds.
NOT_OURS = {"componentstatuses", "events", "events.events.k8s.io", "leases.coordination.k8s.io", "customresourcedefinitions.apiextensions.k8s.io"}
# Written by the server, and different for each object that is created.
BY_SERVER = {"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class ApiServer:
    """Runs until the block ends, also if the test is told to end."""

    def __init__(self, programs, helm, folder, *options):
        """`options` are more arguments of the server."""
        self.programs, self.helm_program, self.folder = pathlib.Path(programs).resolve(), pathlib.Path(helm).resolve(), pathlib.Path(folder)
        self.kubeconfig = self.folder / "kubeconfig"
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder / "home"), "KUBECONFIG": str(self.kubeconfig)}
        self.options, self.running = options, []

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
        try:
            self.launch()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name, *arguments):
        with open(self.folder / f"{name}.log", "w") as log:
            self.running.append(subprocess.Popen([self.programs / name, *arguments], cwd=self.folder, stdout=log, stderr=log))

    def launch(self):
        client, peer, port = free_port(), free_port(), free_port()
        etcd, peers = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        self.start(
            "etcd", "--data-dir=etcd", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}", "--unsafe-no-fsync",
        )
        subprocess.run(["openssl", "genrsa", "-out", self.folder / "accounts.key", "2048"], check=True, capture_output=True)
        token = secrets.token_hex(16)
        tokens = self.folder / "tokens.csv"
        tokens.touch(0o600)
        tokens.write_text(f'{token},admin,admin,"system:masters"\n')
        self.start(
            "kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={port}", "--bind-address=127.0.0.1", "--cert-dir=certificates",
            "--service-account-key-file=accounts.key", "--service-account-signing-key-file=accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc", "--token-auth-file=tokens.csv", "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            # For pods, of which there are none; otherwise the server looks for a default route.
            "--advertise-address=192.0.2.1",
            *self.options,
        )
        authority = str(self.folder / "certificates/apiserver.crt")
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": authority}}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.touch(0o600)
        self.kubeconfig.write_text(json.dumps(config))
        deadline = time.monotonic() + 180
        while self.kubectl("get", "--raw", "/readyz").returncode != 0:
            ended = [process.args[0].name for process in self.running if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "".join((self.folder / f"{name}.log").read_text()[-2000:] for name in ended or ["kube-apiserver"])
                sys.exit(f"the API server does not get ready; ended: {ended}\n{logs}")
            time.sleep(0.5)

    def start_controllers(self, *options):
        self.start(
            "kube-controller-manager", f"--kubeconfig={self.kubeconfig}", "--secure-port=0", "--leader-elect=false",
            "--service-account-private-key-file=accounts.key", "--root-ca-file=certificates/apiserver.crt", *options,
        )

    def kubectl(self, *arguments, given=None, folder=None):
        command = [str(part) for part in (self.programs / "kubectl", *arguments)]
        return subprocess.run(command, capture_output=True, text=True, input=given, env=self.environment, cwd=folder)

    def helm(self, *arguments, folder=None):
        command = [str(part) for part in (self.helm_program, *arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=folder)

    def submit(self, text, *options):
        """Applies manifests server-side, and returns what went wrong: a refusal, or a warning."""
        ran = self.kubectl("apply", "--server-side", "--validate=strict", *options, "-f", "-", given=text)
        return ran.stderr.strip() or ("" if ran.returncode == 0 else f"status {ran.returncode}")

    def objects(self, text):
        """The objects of manifests, as the server has them."""
        ran = self.kubectl("get", "-f", "-", "-o", "json", given=text)
        check(ran.returncode == 0, f"kubectl get: {ran.stderr}")
        found = json.loads(ran.stdout or '{"kind": "List", "items": []}')
        return found["items"] if found["kind"] == "List" else [found]

    def versions(self, text):
        return {named(thing): thing["metadata"]["resourceVersion"] for thing in self.objects(text)}

    def content(self, text):
        """What the server has of manifests, without what differs each time."""
        return {named(thing): settled(thing) for thing in self.objects(text)}

    def namespace_labels(self, name):
        ran = self.kubectl("get", "namespace", name, "-o", "json")
        return json.loads(ran.stdout)["metadata"].get("labels", {})

    def remove_namespace(self, name):
        """What a controller does with a namespace that somebody deletes."""
        self.kubectl("delete", "namespace", name, "--wait=false")
        kinds = set(self.kubectl("api-resources", "--verbs=delete", "--namespaced", "-o", "name").stdout.split()) - NOT_OURS
        ran = self.kubectl("delete", ",".join(sorted(kinds)), "--all", "--namespace", name, "--timeout=60s")
        check(ran.returncode == 0, f"namespace {name}: {ran.stderr}")
        namespace = json.loads(self.kubectl("get", "namespace", name, "-o", "json").stdout)
        namespace["spec"]["finalizers"] = []
        ran = self.kubectl("replace", "--raw", f"/api/v1/namespaces/{name}/finalize", "-f", "-", given=json.dumps(namespace))
        check(ran.returncode == 0, f"namespace {name}: {ran.stderr}")

    def everything(self):
        """The name of every object in the server."""
        kinds = set(self.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()) - NOT_OURS
        names = '{range .items[*]}{.apiVersion}/{.kind} {.metadata.namespace}/{.metadata.name}{"\\n"}{end}'
        ran = self.kubectl("get", ",".join(sorted(kinds)), "--all-namespaces", "-o", f"jsonpath={names}")
        if ran.returncode != 0 or len(kinds) < 30:
            sys.exit(f"{len(kinds)} kinds: {ran.stderr}")
        return set(ran.stdout.splitlines())


def named(thing):
    return f"{thing['kind']} {thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def settled(thing):
    thing = {part: value for part, value in thing.items() if part != "status"}
    metadata = {part: value for part, value in thing["metadata"].items() if part not in BY_SERVER}
    annotations = {part: value for part, value in metadata.pop("annotations", {}).items() if part != LAST_APPLIED}
    thing["metadata"] = metadata | {"annotations": annotations}
    if thing["kind"] == "Service" and thing["spec"].get("clusterIP") != "None":
        thing["spec"] = {part: value for part, value in thing["spec"].items() if part not in ("clusterIP", "clusterIPs")}
    if thing["kind"] == "Job":
        # The server adds labels with its uid.
        thing["metadata"].pop("labels")
        thing["spec"]["selector"] = thing["spec"]["template"]["metadata"] = {}
    return thing
