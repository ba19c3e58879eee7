//! The module over time: reloads of its configuration under load, a broken configuration, memory and threads.
//! `DOORWARD_RELOADS` is the number of reloads, by default a hundred.

use std::{
    env, fs,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::{
    filter_feed::home,
    front::{BOB, log_in},
    harness::{Envoy, EnvoyConfig, PATIENCE, Service, send, until},
    load::Load,
};

/// Splits a configuration into the listener, for a file that Envoy reloads, and the rest.
fn divided(text: &str, file: &Path) -> (String, String) {
    let (before, rest) = text.split_once("  listeners:\n").unwrap();
    let (listener, after) = rest.split_once("\n  clusters:\n").unwrap();
    let listener = listener
        .replace("&module", "")
        .replace("&config", "")
        .replacen(
            "    - name: edge\n",
            "    - \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\n      name: edge\n",
            1,
        );
    let dynamic = format!(
        "# The listener loads dynamic_modules.\nnode: {{ id: edge, cluster: edge }}\ndynamic_resources:\n  lds_config:\n    resource_api_version: V3\n    path_config_source: {{ path: {} }}\n",
        file.display()
    );
    let rest = format!("{dynamic}{before}\n  clusters:\n{after}");
    (listener, rest)
}

/// Replaces the listener in one step.
fn put(file: &Path, version: usize, listener: &str) {
    let part = file.with_extension("part");
    fs::write(
        &part,
        format!("version_info: \"{version}\"\nresources:\n{listener}\n"),
    )
    .unwrap();
    fs::rename(part, file).unwrap();
}

async fn stat(envoy: &Envoy, name: &str) -> u64 {
    let reply = envoy.ask(&format!("/stats?filter=^{name}$")).await;
    let value = reply.text().trim().rsplit(' ').next().map(str::to_owned);
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The number of the module's threads.
fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "doorward")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_of_the_configuration_lose_no_request() {
    let reloads = env::var("DOORWARD_RELOADS").map_or(100, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lds.yaml");
    let place = file.clone();
    let listener = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&listener);
    let doorward = home(|_| {}).await.serve().await;
    let service = Service::start().await;
    let config = EnvoyConfig::module()
        .without_bootstrap()
        .free_ports()
        .doorward(doorward.grpc)
        .doorward_http_if_used(doorward.http)
        .service(service.address)
        .change(|text| {
            let (own, rest) = divided(&text, &place);
            *kept.lock().unwrap() = own;
            rest
        });
    let listener = listener.lock().unwrap().clone();
    put(&file, 1, &listener);
    // Otherwise Envoy keeps all of them for ten minutes, and its memory grows by 90 kB for each.
    let envoy = Envoy::with_short_drains(Envoy::NEWEST, &config).await;
    let bob = log_in(doorward.http, BOB).await;
    let ask = async || {
        let headers = [("authorization", &*bob)];
        send(envoy.edge, "GET", "/profile", &headers, "")
            .await
            .status
    };
    until("the first feed", PATIENCE, async || {
        (ask().await == 200).then_some(())
    })
    .await;

    let load = Load::start(envoy.edge, &[(&bob, &[200]), (&bob, &[200])]);
    let mut early = 0;
    for number in 0..reloads {
        // Each one differs; every tenth has other members of `feed`, which makes a state of its own.
        let stale = 10 + number / 10;
        let next = listener
            .replace("max_body: 8192", &format!("max_body: {}", 8000 + number))
            .replace("stale_after: 10s", &format!("stale_after: {stale}s"));
        let before = stat(&envoy, "listener_manager.lds.update_success").await;
        put(&file, number + 2, &next);
        until("the configuration is exchanged", PATIENCE, async || {
            (stat(&envoy, "listener_manager.lds.update_success").await > before).then_some(())
        })
        .await;
        if number == reloads / 3 {
            early = resident(envoy.pid());
        }
    }
    let rejected = stat(&envoy, "listener_manager.lds.update_rejected").await;
    assert_eq!(rejected, 0, "{}", envoy.log());
    put(
        &file,
        reloads + 2,
        &listener.replace("metadata: doorward", "metadatum: doorward"),
    );
    until("the broken one is refused", PATIENCE, async || {
        (stat(&envoy, "listener_manager.lds.update_rejected").await > 0).then_some(())
    })
    .await;
    assert_eq!(ask().await, 200);
    load.end(10).await;
    assert_eq!(threads(envoy.pid()), 1);
    let late = resident(envoy.pid());
    assert!(late < early + 40 * 1024, "{early} KiB became {late} KiB");
}
