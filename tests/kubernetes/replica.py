"""Doorward, running with the settings of an overlay, its ports and client address; its users are in SQLite."""

import re, signal, subprocess

import spine
from faults import check

USERS = {"ada": ("analytical-engine", "--admin"), "bob": ("builder-of-things", "--role", "editor")}
PASSWORDS = {user: password for user, (password, *_) in USERS.items()}


class Doorward:
    def __init__(self, program, folder, objects, gateway="127.0.0.1"):
        self.program = program
        maps = [thing for thing in objects if thing["kind"] == "ConfigMap" and "doorward.toml" in thing["data"]]
        # The rows are in Doorward's own table.
        text, count = re.subn(r"\[users\]\n(?:\w.*\n)+", "", maps[0]["data"]["doorward.toml"])
        check(count == 1, "the settings have no [users]")
        (folder / "doorward.toml").write_text(text)
        deployments = [thing for thing in objects if thing["kind"] == "Deployment" and thing["metadata"]["name"] == "doorward"]
        variables = {one["name"]: one["value"] for one in deployments[0]["spec"]["template"]["spec"]["containers"][0]["env"]}
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "DOORWARD_CONFIG": str(folder / "doorward.toml"),
            "DOORWARD_CLIENT_ADDRESS": variables["DOORWARD_CLIENT_ADDRESS"],
            "DOORWARD_FEED__ENABLED": variables.get("DOORWARD_FEED__ENABLED", "false"),
            "DOORWARD_DATA_DIR": str(folder / "data"),
            "DOORWARD_TRUSTED_PROXIES": gateway,
            "DOORWARD_AUDIT__TO": "stderr",
        }
        if "DOORWARD_JWT__KEYS_DIR" in variables:
            self.environment["DOORWARD_JWT__KEYS_DIR"] = str(folder / "keys")
            # As docs/kubernetes.md says.
            self.run("keys", "generate", "ES256")
        self.log = folder / "doorward.log"
        self.log.touch()
        self.start()
        for user, (password, *options) in USERS.items():
            self.run("user", "add", user, *options, given=password)

    def run(self, *arguments, given=""):
        ran = subprocess.run([self.program, *arguments], input=given, capture_output=True, text=True, env=self.environment)
        check(ran.returncode == 0, f"{arguments}: {ran.stderr}")

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([self.program, "serve"], stdout=log, stderr=log, env=self.environment)
        spine.until(lambda: spine.status(9003, "/readyz") == 200, "Doorward is ready", self.log.read_text)

    def stop(self):
        end(self.process)


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
