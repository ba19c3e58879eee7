//! The runner of `make matrix`: what holds passes, what does not hold fails, and the committed page is its own.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    harness::{Envoy, repository},
    smoke::example,
};

/// Runs it with these arguments.
async fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(example("matrix"));
    command
        .args([
            "--doorward",
            env!("CARGO_BIN_EXE_doorward"),
            "--output",
            "json",
        ])
        .args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// The scenarios and results of all cells.
fn cells(ran: &Output) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_slice(&ran.stdout)
        .unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&ran.stderr)));
    let cells = report["cells"].as_array().unwrap().iter();
    cells
        .map(|cell| {
            let text = |name: &str| cell[name].as_str().unwrap().to_owned();
            (text("scenario"), text("result"), cell["why"].to_string())
        })
        .collect()
}

fn envoy() -> String {
    format!("proxy=envoy-grpc-{}", Envoy::NEWEST)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_passes() {
    for (proxy, cannot) in [("proxy=nginx", "grpc-denial"), (&envoy(), "")] {
        let names = [
            "spoofed-identity",
            "xhr",
            "websocket",
            "grpc-denial",
            "revoked-key",
        ];
        let only = names.map(|name| format!(",scenario={name}")).concat();
        let ran = run(&["--only", &format!("{proxy}{only}")]).await;
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        let cells = cells(&ran);
        assert_eq!(cells.len(), names.len());
        for (scenario, result, why) in cells {
            let expected = match scenario == cannot {
                true => "cannot",
                false => "pass",
            };
            assert_eq!(result, expected, "{proxy} {scenario}: {why}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorizer_that_allows_everything_fails() {
    let names = [
        "spoofed-identity",
        "spoofed-aliases",
        "dotted-paths",
        "doubled-headers",
        "preflight",
        "xhr",
        "grpc-client",
        "websocket",
    ];
    let only = names.map(|name| format!(",scenario={name}")).concat();
    let only = format!("{}{only}", envoy());
    let ran = run(&["--authorizer", "null", "--only", &only]).await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let cells = cells(&ran);
    assert_eq!(cells.len(), names.len());
    for (scenario, result, why) in cells {
        assert_eq!(result, "fail", "{scenario}");
        assert!(!why.contains("did not run"), "{scenario}: {why}");
    }
}

/// Scenarios of their own, each with a mistake in the gateway's configuration or in the reason of a cell.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_fail() {
    let committed = fs::read_to_string(repository().join("envoy/envoy.yaml")).unwrap();
    let (_, filter) = committed
        .split_once("                http_filters:\n")
        .unwrap();
    let (filter, _) = filter
        .split_once("                  - name: envoy.filters.http.router\n")
        .unwrap();
    let route = "                        - match: { prefix: / }\n";
    let disabled = format!(
        "{route}                          typed_per_filter_config:\n                            \
         envoy.filters.http.ext_authz:\n                              \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n                              \
         disabled: true\n"
    );
    let edits = [("forgotten", filter, ""), ("disabled", route, &*disabled)];
    let mut file = String::new();
    for (name, from, to) in edits {
        let (from, to) = (Value::from(from), Value::from(to));
        file += &format!(
            "[[change]]\nname = '{name}'\nproxies = ['envoy-grpc']\nwhy = '-'\nedits = [[{from}, {to}]]\n\
             [[scenario]]\nname = '{name}'\nproves = '-'\nchange = '{name}'\n\
             [[scenario.request]]\npaths = ['/echo']\noutcome = 'deny'\n"
        );
    }
    file += "[[scenario]]\nname = 'stale-reason'\nproves = '-'\n\
             [[scenario.request]]\npaths = ['/echo']\noutcome = 'deny'\n\
             [scenario.cannot]\nenvoy-grpc = 'It was so once.'\n\
             [[scenario]]\nname = 'unsafe-reason'\nproves = '-'\nchange = 'disabled'\n\
             [[scenario.request]]\npaths = ['/echo']\noutcome = 'deny'\n\
             [scenario.cannot]\nenvoy-grpc = 'It cannot deny.'\n\
             [[scenario]]\nname = 'right-reason'\nproves = '-'\n\
             [[scenario.request]]\npaths = ['/echo']\noutcome = 'pass'\n\
             [scenario.cannot]\nenvoy-grpc = 'It cannot pass.'\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scenarios.toml");
    fs::write(&path, file).unwrap();
    let ran = run(&["--scenarios", path.to_str().unwrap(), "--only", &envoy()]).await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    for (scenario, result, why) in cells(&ran) {
        let (expected, says) = match &*scenario {
            "forgotten" | "disabled" | "unsafe-reason" => ("fail", "reached the service"),
            "stale-reason" => ("fail", "no longer holds"),
            _ => ("cannot", "It cannot pass."),
        };
        assert_eq!(result, expected, "{scenario}: {why}");
        assert!(why.contains(says), "{scenario}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_refused() {
    for only in ["proxy=apache", "scenario=nothing", "nginx"] {
        let ran = run(&["--only", only]).await;
        assert!(
            !ran.status.success() && ran.stdout.is_empty(),
            "{only}: {ran:?}"
        );
    }
}

#[test]
fn the_committed_matrix_is_complete_and_nothing_in_it_fails() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let report: Value = serde_json::from_str(&read("docs/matrix.json")).unwrap();
    let names = |list: &Value, member: &str| -> BTreeSet<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|own| own[member].as_str().unwrap().to_owned())
            .collect()
    };
    let scenarios: toml::Table = toml::from_str(&read("examples/matrix/scenarios.toml")).unwrap();
    let scenarios = scenarios["scenario"].as_array().unwrap().iter();
    let known: BTreeSet<_> = scenarios
        .map(|own| own["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names(&report["scenarios"], "name"), known);
    let gateways = report["gateways"].as_array().unwrap();
    assert!(gateways.len() >= 14, "{gateways:?}");
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(cells.len(), gateways.len() * known.len());
    for cell in cells {
        let result = cell["result"].as_str().unwrap();
        let has_reason = cell["why"].as_str().is_some_and(|why| !why.is_empty());
        assert!(
            result == "pass" || (["cannot", "not-built"].contains(&result) && has_reason),
            "{cell}"
        );
    }
    let page = Command::new(example("matrix"))
        .arg("page")
        .arg(Path::new(repository()).join("docs/matrix.json"))
        .output()
        .unwrap();
    let page = String::from_utf8(page.stdout).unwrap();
    assert_eq!(page, read("docs/matrix.md"), "run `make matrix`");
}
