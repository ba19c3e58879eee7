//! The image and the compose file: linted, checked against schemas, and checked for required content. These tests need
//! no container engine.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
};

use yaml_rust2::{Yaml, YamlLoader};

use crate::harness::{fed, repository, tool};

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap()
}

/// All findings of hadolint, including hints.
fn linted(dockerfile: &str) -> Output {
    let mut command = Command::new(tool("hadolint-2.15.1/hadolint"));
    command.args(["--failure-threshold", "style", "--config", "/dev/null", "-"]);
    fed(&mut command, dockerfile.as_bytes())
}

#[test]
fn the_linter_accepts_the_dockerfile_and_rejects_faulty_ones() {
    let dockerfile = read("Dockerfile");
    let ran = linted(&dockerfile);
    assert!(ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
    for (right, wrong, rule) in [
        (
            "USER 65532:65532\nEXPOSE 9001",
            "USER root\nEXPOSE 9001",
            "DL3002",
        ),
        (
            "-bookworm AS build\n",
            "-bookworm AS build\nRUN cd /tmp\n",
            "DL3003",
        ),
        ("rust:${RUST}-bookworm", "rust:latest", "DL3007"),
        ("# hadolint ignore=DL3008\n", "", "DL3008"),
        ("CMD [\"serve\"]", "CMD serve", "DL3025"),
        ("COPY src src", "COPY src ", "unexpected"),
    ] {
        let broken = dockerfile.replacen(right, wrong, 1);
        assert_ne!(broken, dockerfile, "{right}");
        let ran = linted(&broken);
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            !ran.status.success() && said.contains(rule),
            "{rule}: {said}"
        );
    }
}

#[test]
fn the_image_copies_existing_files_and_uses_the_compiler_of_the_tests() {
    let dockerfile = read("Dockerfile");
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain.split("channel = \"").nth(1).unwrap();
    let (version, _) = version.split_once('"').unwrap();
    assert!(
        dockerfile.contains(&format!("ARG RUST={version}\n")),
        "{version}"
    );

    // Everything that the Dockerfile copies must exist and must not be ignored.
    let ignored = read(".dockerignore");
    let mut copied = BTreeSet::new();
    for line in dockerfile.lines().filter(|line| line.starts_with("COPY ")) {
        if line.contains("--from=") {
            continue;
        }
        let mut words: Vec<_> = line.split(' ').skip(1).collect();
        words.pop();
        for source in words {
            copied.insert(source.to_owned());
            assert!(ignored.contains(&format!("\n!{source}\n")), "{source}");
            assert!(repository().join(source).exists(), "{source}");
        }
    }
    assert_eq!(copied.len(), ignored.matches("\n!").count(), "{ignored}");
    assert!(ignored.contains("\n*\n"));

    // A build without `--target` makes the last stage; its command is the one that the tests run.
    let (_, last) = dockerfile.rsplit_once("\nFROM ").unwrap();
    assert!(last.starts_with("scratch AS doorward\n"), "{last}");
    for line in [
        "USER 65532:65532",
        "ENTRYPOINT [\"doorward\"]",
        "CMD [\"serve\"]",
        "EXPOSE 9001 9002 9003",
    ] {
        assert!(last.lines().any(|found| found == line), "{line}");
    }
    assert!(
        last.contains("CMD [\"doorward\", \"check\", \"--url\", \"http://127.0.0.1:9003/readyz\"]")
    );
}

/// Checks the file against the schema of the Compose Specification; gives its faults, or the file with its aliases
/// resolved.
fn composed(text: &str) -> Result<Vec<Yaml>, String> {
    const PROGRAM: &str = "
import json, sys, jsonschema, yaml
thing = yaml.safe_load(sys.stdin)
schema = json.load(open(sys.argv[1]))
faults = list(jsonschema.Draft7Validator(schema).iter_errors(thing))
for fault in faults:
    print('.'.join(map(str, fault.absolute_path)), fault.message)
if faults:
    sys.exit(1)
print(json.dumps(thing))
";
    let mut command = Command::new("python3");
    command
        .args(["-c", PROGRAM])
        .arg(tool("compose-spec/compose_spec.json"))
        .env("PYTHONPATH", tool("manifests"));
    let ran = fed(&mut command, text.as_bytes());
    let said = String::from_utf8(ran.stdout).unwrap();
    match ran.status.code() {
        Some(0) => Ok(YamlLoader::load_from_str(&said).unwrap()),
        Some(1) if ran.stderr.is_empty() => Err(said),
        _ => panic!("{said}{}", String::from_utf8_lossy(&ran.stderr)),
    }
}

#[test]
fn the_compose_file_fits_its_schema_and_a_bad_one_does_not() {
    let text = read("compose.yaml");
    composed(&text).unwrap();
    for (right, wrong, said) in [
        ("depends_on:", "depend_on:", "depend_on"),
        (
            "condition: service_healthy",
            "condition: healthy",
            "healthy",
        ),
        ("cap_drop: [ALL]", "cap_drop: ALL", "ALL"),
        ("internal: true", "internl: true", "internl"),
    ] {
        let broken = text.replacen(right, wrong, 1);
        assert_ne!(broken, text, "{right}");
        let faults = composed(&broken).expect_err(wrong);
        assert!(faults.contains(said), "{wrong}: {faults}");
    }
}

#[test]
fn compose_services_have_few_rights_and_only_the_gateway_is_published() {
    let document = composed(&read("compose.yaml")).unwrap().remove(0);
    let services = document["services"].as_hash().unwrap();
    let mut names = Vec::new();
    for (name, service) in services {
        let name = name.as_str().unwrap();
        names.push(name);
        assert_eq!(service["read_only"].as_bool(), Some(true), "{name}");
        assert_eq!(service["cap_drop"][0].as_str(), Some("ALL"), "{name}");
        let option = service["security_opt"][0].as_str();
        assert_eq!(option, Some("no-new-privileges:true"), "{name}");
        assert!(!service["healthcheck"].is_badvalue(), "{name}");
        let ports = service["ports"].as_vec();
        match (name, ports) {
            ("envoy", Some(ports)) => {
                let ports: Vec<_> = ports.iter().filter_map(Yaml::as_str).collect();
                assert_eq!(ports, ["127.0.0.1:8080:8080"]);
            }
            (_, ports) => assert!(ports.is_none(), "{name}"),
        }
        // The engine would create a missing file as a directory.
        for mount in service["volumes"].as_vec().into_iter().flatten() {
            let mount = mount.as_str().unwrap();
            if let Some(path) = mount.strip_prefix("./") {
                let (path, _) = path.split_once(':').unwrap();
                assert!(repository().join(path).is_file(), "{name}: {path}");
                assert!(mount.ends_with(":ro"), "{name}: {mount}");
            }
        }
    }
    names.sort_unstable();
    assert_eq!(names, ["doorward", "envoy", "migrate", "mysql", "profile"]);
    for (name, secret) in document["secrets"].as_hash().unwrap() {
        let file = secret["file"].as_str().unwrap();
        assert!(file.contains("/demo-only-"), "{name:?}: {file}");
        assert!(repository().join(file).is_file(), "{file}");
    }
    // The images are those of the Kubernetes manifests.
    let manifests = ["mysql.yaml", "gateway.yaml"];
    let manifests = manifests.map(|file| read(&format!("k8s/overlays/minikube/{file}")));
    for name in ["mysql", "envoy"] {
        let image = document["services"][name]["image"].as_str().unwrap();
        let line = format!("image: {image}\n");
        assert!(manifests.iter().any(|text| text.contains(&line)), "{image}");
    }
}

/// `compose.filter.yaml` replaces only Envoy's image and configuration, and gives Doorward a feed and a key.
#[test]
fn the_compose_file_with_the_module_changes_only_what_it_needs() {
    let text = read("compose.filter.yaml");
    let document = composed(&text).unwrap().remove(0);
    let faults = composed(&text.replace("target: envoy", "targets: envoy")).unwrap_err();
    assert!(faults.contains("targets"), "{faults}");
    let base = composed(&read("compose.yaml")).unwrap().remove(0);

    let members = |thing: &Yaml| {
        let names = thing.as_hash().unwrap().keys();
        let mut names: Vec<_> = names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let services = &document["services"];
    assert_eq!(members(services), ["doorward", "envoy"]);
    assert_eq!(members(&services["doorward"]), ["environment", "secrets"]);
    assert_eq!(members(&services["envoy"]), ["build", "image", "volumes"]);

    // The image is the Envoy of compose.yaml with the library in it.
    let dockerfile = read("Dockerfile");
    let own = base["services"]["envoy"]["image"].as_str().unwrap();
    let target = services["envoy"]["build"]["target"].as_str().unwrap();
    let (_, stage) = dockerfile
        .split_once(&format!("\nFROM {own} AS {target}\n"))
        .expect("a stage");
    let (stage, _) = stage.split_once("\nFROM ").unwrap();
    assert!(stage.contains("/out/libdoorward.so /usr/lib/libdoorward.so\n"));
    assert!(stage.contains("\nUSER 101:101\n"));
    assert_eq!(base["services"]["envoy"]["user"].as_str(), Some("101:101"));

    // Compose replaces a mount at the same place.
    let mount = |document: &Yaml| {
        let mounts = &document["services"]["envoy"]["volumes"];
        assert_eq!(mounts.as_vec().unwrap().len(), 1);
        let (file, place) = mounts[0].as_str().unwrap().split_once(':').unwrap();
        assert!(repository().join(file).is_file(), "{file}");
        (file.to_owned(), place.to_owned())
    };
    let ((before, place), (file, same)) = (mount(&base), mount(&document));
    assert_eq!(place, same);
    assert_ne!(before, file);
    for (name, secret) in document["secrets"].as_hash().unwrap() {
        let file = secret["file"].as_str().unwrap();
        assert!(file.contains("/demo-only-"), "{name:?}: {file}");
        assert!(repository().join(file).is_file(), "{file}");
    }
    let command = "docker compose -f compose.yaml -f compose.filter.yaml up --build";
    for place in ["docs/kubernetes.md", "compose.filter.yaml"] {
        assert!(read(place).contains(command), "{place}");
    }
}
