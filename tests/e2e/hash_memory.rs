//! The memory that hashing takes if existing rows need much of it.

use std::{fs, path::PathBuf, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use yaml_rust2::YamlLoader;

use crate::{
    direct::{login, login_from, sqlite},
    harness::{Doorward, Settings, repository, until},
};

/// The password of the test vector below.
const HORSE: &str = "correct horse";

/// MiB for everything except hashing, with room for memory that the allocator keeps.
const ELSE: u64 = 48;

/// What `password_hash` of PHP writes by default: 64 MiB, four passes.
fn php() -> String {
    let vectors = fs::read(repository().join("tests/vectors/passwords.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_slice(&vectors).unwrap();
    let mut hashes = vectors.iter().filter_map(|vector| vector["hash"].as_str());
    let hash = hashes.find(|hash| hash.starts_with("$argon2id$v=19$m=65536,t=4,p=1$"));
    hash.unwrap().to_owned()
}

/// Serves with this many users, whose rows all hold one hash.
async fn serving(users: usize, hash: &str, choose: impl FnOnce(&mut Settings)) -> Doorward {
    let home = Doorward::prepare(|settings| {
        settings
            .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1")
            .env("DOORWARD_DATABASE__TIMEOUT", "5s");
        choose(settings);
    });
    home.run(&["migrate"], "").await.ok();
    let file: PathBuf = home.dir().join("data/doorward.db");
    for number in 0..users {
        sqlite(
            &file,
            &format!("INSERT INTO users (id, username, password_hash, roles, disabled, created_at, updated_at) VALUES ('{number}', 'user-{number}', '{hash}', '', 0, 0, 0)"),
        )
        .await;
    }
    home.serve().await
}

/// The highest resident memory so far, in MiB.
fn peak(doorward: &Doorward) -> u64 {
    memory(doorward, "VmHWM:")
}

/// The memory that is resident now, in MiB.
fn resident(doorward: &Doorward) -> u64 {
    memory(doorward, "VmRSS:")
}

fn memory(doorward: &Doorward, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", doorward.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024
}

/// Guesses passwords of many accounts at once, so that neither the throttle nor the queue delays them.
async fn guess(doorward: &Doorward, users: usize) {
    let guesses = (0..users).map(|number| async move {
        let name = format!("user-{number}");
        let client = format!("198.51.100.{number}");
        login_from(doorward, (&name, "guess"), &client).await.status
    });
    assert_eq!(join_all(guesses).await, vec![401; users]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_php_hashes_stay_within_the_memory_limit() {
    for budget in [80, 140] {
        let doorward = serving(6, &php(), |settings| {
            settings
                .env("DOORWARD_LOGIN__HASH_THREADS", "4")
                .env("DOORWARD_LOGIN__HASH_MEMORY", format!("{budget}MiB"));
        })
        .await;
        guess(&doorward, 6).await;
        // Doorward's own hashes are verified at the same time.
        let unknown = (0..8).map(|number| {
            let (doorward, name) = (&doorward, format!("nobody-{number}"));
            async move { login(doorward, (&name, "guess")).await.status }
        });
        assert_eq!(join_all(unknown).await, vec![401; 8]);
        guess(&doorward, 6).await;
        let reply = login(&doorward, ("user-0", HORSE)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let peak = peak(&doorward);
        assert!(
            peak < budget + ELSE,
            "{peak} MiB with a budget of {budget} MiB"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scrypt_hashes_count_as_well() {
    // Werkzeug's default is 32 MiB.
    let hash = format!("scrypt:32768:8:1$salt${}", "ab".repeat(64));
    let doorward = serving(10, &hash, |settings| {
        settings
            .env("DOORWARD_LOGIN__HASH_THREADS", "6")
            .env("DOORWARD_LOGIN__HASH_MEMORY", "70MiB");
    })
    .await;
    guess(&doorward, 10).await;
    guess(&doorward, 10).await;
    let peak = peak(&doorward);
    assert!(peak < 70 + ELSE, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_larger_than_the_limit_is_refused_like_an_unknown_scheme() {
    let doorward = serving(1, &php(), |settings| {
        settings.env("DOORWARD_LOGIN__HASH_MEMORY", "63MiB");
    })
    .await;
    let reply = login(&doorward, ("user-0", HORSE)).await;
    assert_eq!((reply.status, reply.text()), (401, "Invalid credentials"));
    let line = doorward
        .logged("the refusal", |line| {
            line["fields"]["reason"] == "unsupported-hash"
        })
        .await;
    assert_eq!(line["fields"]["sub"], "0");
    let peak = peak(&doorward);
    assert!(peak < 63 + ELSE, "{peak} MiB");
    let line = doorward
        .logged("a warning at the start", |line| {
            line["fields"]["too_large"] == 1 && line["level"] == "WARN"
        })
        .await;
    assert_eq!(line["fields"]["seen"], 1, "{line}");
}

/// After a flood of logins, hashing threads keep their memory for the next hash until they have rested.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_flood_memory_goes_back_to_the_system() {
    const THREADS: u64 = 4;
    /// MiB that may stay in addition to the resident memory before: connections, statements and counts.
    const STAYS: u64 = 8;
    let doorward = serving(2, &php(), |settings| {
        settings.env("DOORWARD_LOGIN__HASH_THREADS", THREADS.to_string());
    })
    .await;
    // Doorward measures the hashes of the table after its start.
    let reply = login(&doorward, ("user-0", HORSE)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = resident(&doorward);
    for round in 0..3 {
        let unknown = (0..60).map(|number| {
            let (doorward, name) = (&doorward, format!("nobody-{round}-{number}"));
            let client = format!("203.0.113.{number}");
            async move { login_from(doorward, (&name, "guess"), &client).await.status }
        });
        let statuses = join_all(unknown).await;
        let refused = |status: &u16| [401, 429, 503].contains(status);
        assert!(statuses.iter().all(refused), "{statuses:?}");
    }
    let used = peak(&doorward);
    assert!(used >= before + 2 * 19, "{before} MiB, then {used} MiB");
    until(
        "the memory is returned",
        Duration::from_secs(60),
        async || (resident(&doorward) <= before + STAYS).then_some(()),
    )
    .await;
    eprintln!(
        "{before} MiB, {used} MiB in the flood, {} MiB after it",
        resident(&doorward)
    );
    // Doorward still hashes.
    let reply = login(&doorward, ("user-1", HORSE)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Every manifest that starts Doorward, with its memory limit in MiB.
fn limits() -> Vec<(String, u64)> {
    let mut limits = Vec::new();
    for file in [
        "k8s/base/deployment.yaml",
        "k8s/overlays/production/deployment.yaml",
    ] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        let manifest = YamlLoader::load_from_str(&text).unwrap().remove(0);
        let container = &manifest["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["name"].as_str(), Some("doorward"));
        let limit = container["resources"]["limits"]["memory"].as_str().unwrap();
        limits.push((
            file.to_owned(),
            limit.trim_end_matches("Mi").parse().unwrap(),
        ));
    }
    let text = fs::read_to_string(repository().join("compose.yaml")).unwrap();
    let compose = YamlLoader::load_from_str(&text).unwrap().remove(0);
    let limit = &compose["services"]["doorward"]["mem_limit"];
    let limit = limit.as_str().unwrap();
    limits.push((
        "compose.yaml".to_owned(),
        limit.trim_end_matches('m').parse().unwrap(),
    ));
    limits
}

#[test]
fn manifests_have_room_for_the_default_hash_memory() {
    for (file, limit) in limits() {
        for threads in [1, 2, 64] {
            let memory = doorward::config::hash_memory_default(threads, Some(limit * 1024)) / 1024;
            assert!(memory + ELSE <= limit, "{file}: {memory} of {limit} MiB");
            // One PHP hash together with one of Doorward's own hashes.
            assert!(memory >= 64 + 19, "{file}: {memory} MiB");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_hash_memory_is_a_fault() {
    for (value, what) in [
        ("64", "less than the 19 MiB"),
        ("18MiB", "less than the 19 MiB"),
        ("-1MiB", "is not a size"),
    ] {
        let home = Doorward::prepare(|settings| {
            settings.env("DOORWARD_LOGIN__HASH_MEMORY", value);
        });
        let ran = home.run(&["config", "check"], "").await;
        assert!(
            !ran.status.success() && ran.stderr.contains(what),
            "{ran:?}"
        );
    }
    let home = Doorward::prepare(|settings| {
        settings.env("DOORWARD_LOGIN__HASH_MEMORY", "auto");
    });
    home.run(&["config", "check"], "").await.ok();
}
