"""Runs containers of pods in the place of a node: with their arguments, variables, volumes and service accounts, each in a root of its
own.
"""

import base64, json, math, pathlib, re, shutil, subprocess, sys, urllib.parse

import spine
from faults import check
from replica import end

NODE = "node"
SIZES = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def run(server, *command, given=None):
    ran = server.kubectl(*command, given=given)
    check(ran.returncode == 0, f"kubectl {command}: {ran.stdout} {ran.stderr}")
    return ran.stdout


def found(server, space, selector):
    """The pods with these labels that nobody deletes."""
    every = json.loads(run(server, "get", "pods", "-n", space, "-l", selector, "-o", "json"))["items"]
    return [pod for pod in every if "deletionTimestamp" not in pod["metadata"]]


def placed(server, pod, address):
    """Puts a pod on the node, and gives it an address."""
    name, space = pod["metadata"]["name"], pod["metadata"]["namespace"]
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": NODE}}
    run(server, "create", "--raw", f"/api/v1/namespaces/{space}/pods/{name}/binding", "-f", "-", given=json.dumps(binding))
    say(server, pod, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": address, "hostIPs": [{"ip": address}]})
    return json.loads(run(server, "get", "pod", name, "-n", space, "-o", "json"))


def ready(server, pod):
    say(server, pod, {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})


def say(server, pod, status):
    name, space = pod["metadata"]["name"], pod["metadata"]["namespace"]
    run(server, "patch", "pod", name, "-n", space, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def quantity(text):
    number, unit = re.fullmatch(r"(\d+)(m|\w*)", text).groups()
    return int(number) / 1000 if unit == "m" else int(number) * SIZES[unit]


class Container:
    """The only container of a pod. `programs` are the files of its image, `library` that of a volume with an image."""

    def __init__(self, server, pod, root, programs, names, library=None):
        self.server, self.pod, self.root = server, pod, pathlib.Path(root)
        (self.container,) = pod["spec"]["containers"]
        for path, program in programs.items():
            self.place(path, program)
            self.libraries(program)
        if library:
            self.libraries(library)
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for mount in self.container["volumeMounts"]:
            folder = self.inside(mount["mountPath"])
            folder.mkdir(parents=True, exist_ok=True)
            self.fill(folder, volumes[mount["name"]], library)
        for path, text in (("/etc/hosts", names), ("/etc/resolv.conf", "nameserver 127.0.0.1\n"), ("/dev/null", "")):
            self.inside(path).parent.mkdir(parents=True, exist_ok=True)
            self.inside(path).write_text(text)
        (self.root / "tmp").mkdir()
        subprocess.run(["mount", "--bind", "/dev/null", self.inside("/dev/null")], check=True)
        self.environment = self.variables()
        arguments = [self.expanded(one) for one in self.container["args"]]
        self.log = self.root.with_suffix(".log")
        with open(self.log, "w") as log:
            command = [shutil.which("chroot"), self.root, next(iter(programs)), *arguments]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)

    def runs(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.root.name} ended: {self.log.read_text()[-4000:]}")
        return True

    def answers(self, port, path):
        """Whether a probe with HTTP gets 200."""
        return self.runs() and spine.status(port, path) == 200

    def inside(self, path):
        return self.root / path.lstrip("/")

    def place(self, path, file):
        self.inside(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, self.inside(path))

    def libraries(self, program):
        """What a dynamic program needs of this machine; copied, because the root is removed afterwards."""
        ran = subprocess.run(["ldd", program], capture_output=True, text=True)
        for library in re.findall(r"(/\S+) \(0x", ran.stdout):
            self.place(library, library)

    def fill(self, folder, volume, library):
        kind = next(part for part in volume if part != "name")
        source = volume[kind]
        if kind == "projected":
            for one in source["sources"]:
                self.fill(folder, {"name": volume["name"]} | one, library)
        elif kind == "serviceAccountToken":
            account = self.pod["spec"]["serviceAccountName"]
            audience = ["--audience", source["audience"]] if "audience" in source else []
            token = run(self.server, "create", "token", account, "-n", self.pod["metadata"]["namespace"], *audience)
            (folder / source["path"]).write_text(token.strip())
        elif kind == "downwardAPI":
            for item in source["items"]:
                (folder / item["path"]).write_text(self.field(item["fieldRef"]["fieldPath"]))
        elif kind == "configMap":
            for name, text in self.data("configmap", source["name"], source.get("optional")).items():
                if item := self.wanted(name, source):
                    (folder / item).write_text(text)
        elif kind == "secret":
            for name, text in self.data("secret", source["secretName"], source.get("optional")).items():
                (folder / name).write_bytes(base64.b64decode(text))
        elif kind == "image":
            (folder / "usr/lib").mkdir(parents=True)
            shutil.copy(library, folder / "usr/lib/libdoorward.so")
        else:
            check(kind == "emptyDir", f"unknown: {volume}")

    def wanted(self, name, source):
        """The path of a key, if the volume has it."""
        return {item["key"]: item["path"] for item in source.get("items", [{"key": name, "path": name}])}.get(name)

    def data(self, kind, name, optional):
        ran = self.server.kubectl("get", kind, name, "-n", self.pod["metadata"]["namespace"], "-o", "json")
        check(ran.returncode == 0 or optional, f"{kind} {name}: {ran.stderr}")
        return json.loads(ran.stdout).get("data", {}) if ran.returncode == 0 else {}

    def field(self, path):
        value = self.pod
        for part in path.split("."):
            value = value.get(part, {})
        return "\n".join(f"{name}={json.dumps(text)}" for name, text in value.items()) if isinstance(value, dict) else value

    def resource(self, reference):
        kind, name = reference["resource"].split(".")
        amount = self.container.get("resources", {}).get(kind, {}).get(name, {"cpu": "2", "memory": "4Gi"}[name])
        return str(math.ceil(quantity(amount) / (quantity(reference.get("divisor", "0")) or 1)))

    def variables(self):
        api = urllib.parse.urlsplit(json.loads(self.server.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
        known = {"PATH": "/usr/local/bin", "KUBERNETES_SERVICE_HOST": api.hostname, "KUBERNETES_SERVICE_PORT": str(api.port)}
        self.environment = known
        for variable in self.container.get("env", []):
            source = variable.get("valueFrom", {})
            if "fieldRef" in source:
                value = self.field(source["fieldRef"]["fieldPath"])
            elif "resourceFieldRef" in source:
                value = self.resource(source["resourceFieldRef"])
            else:
                check(not source, f"unknown: {variable}")
                value = self.expanded(variable.get("value", ""))
            known[variable["name"]] = value
        return known

    def expanded(self, text):
        return re.sub(r"\$\(([\w.-]+)\)", lambda match: self.environment.get(match[1], match[0]), text)
