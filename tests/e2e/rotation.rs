//! Signing keys are rotated under load, at two Doorwards that share a directory, and no client notices.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    front::{BOB, check, header_of, log_in, refusal},
    harness::{Doorward, PATIENCE, send, until},
};

/// Two seconds until a Doorward checks its files, plus one because times are cut to whole seconds, plus two for a busy
/// machine. With less, one Doorward would sign with a key that the other one has not loaded.
const AFTER: &str = "5s";

#[derive(Default)]
struct Tally {
    ends: AtomicBool,
    logins: AtomicU64,
    checks: AtomicU64,
    refusals: Mutex<Vec<String>>,
    /// The first token of each key.
    firsts: Mutex<Vec<String>>,
}

impl Tally {
    async fn good(&self, doorward: &Doorward, bearer: &str) {
        self.checks.fetch_add(2, Ordering::Relaxed);
        let refused = refusal(doorward.http, bearer).await;
        let said = check(doorward.grpc, "GET", "/profile", bearer).await;
        let code = said.status.unwrap().code;
        if refused.is_some() || code != 0 {
            let kid = header_of(bearer, "kid");
            let refusal = format!("{kid}: {refused:?}, {code} at {}", doorward.http);
            self.refusals.lock().unwrap().push(refusal);
        }
    }

    /// Repeatedly logs in at one Doorward and shows the token, and the first token of each key, to both.
    async fn client(self: Arc<Self>, setups: Arc<[Doorward; 2]>, own: usize) {
        while !self.ends.load(Ordering::Relaxed) {
            let bearer = log_in(setups[own].http, BOB).await;
            self.logins.fetch_add(1, Ordering::Relaxed);
            let kid = header_of(&bearer, "kid");
            let tokens = {
                let mut firsts = self.firsts.lock().unwrap();
                if !firsts.iter().any(|first| header_of(first, "kid") == kid) {
                    firsts.push(bearer.clone());
                }
                [&[bearer][..], &firsts].concat()
            };
            for token in &tokens {
                for doorward in &*setups {
                    self.good(doorward, token).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_causes_no_refusals() {
    let shared = tempfile::tempdir().unwrap();
    let home = || {
        Doorward::prepare(|settings| {
            settings
                .env("DOORWARD_DATA_DIR", shared.path().to_str().unwrap())
                .env("DOORWARD_JWT__LIFETIME", "60s");
        })
    };
    let first = home();
    first.run(&["keys", "generate", "ES256"], "").await.ok();
    first.add_user(BOB.0, BOB.1, &[]).await;
    let setups = Arc::new([first.serve().await, home().serve().await]);
    let tally = Arc::new(Tally::default());
    let clients: Vec<_> = (0..4)
        .map(|n| tokio::spawn(Arc::clone(&tally).client(Arc::clone(&setups), n % 2)))
        .collect();
    let newest = || {
        let firsts = tally.firsts.lock().unwrap();
        firsts.last().map(|first| header_of(first, "alg"))
    };
    for (n, algorithm) in ["EdDSA", "RS256", "HS256"].into_iter().enumerate() {
        let rotate = ["keys", "rotate", "--algorithm", algorithm, "--after", AFTER];
        setups[n % 2].run(&rotate, "").await.ok();
        until(algorithm, PATIENCE, async || {
            (newest().as_deref() == Some(algorithm)).then_some(())
        })
        .await;
    }
    // The other Doorward switches as well, and the checks go on for a while.
    tokio::time::sleep(Duration::from_secs(1)).await;
    tally.ends.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let refusals = tally.refusals.lock().unwrap().clone();
    let (logins, checks) = (
        tally.logins.load(Ordering::Relaxed),
        tally.checks.load(Ordering::Relaxed),
    );
    assert_eq!(refusals, [""; 0], "of {checks} checks");
    assert!(logins > 20 && checks > 200, "{logins} {checks}");
    let firsts = tally.firsts.lock().unwrap().clone();
    let algorithms: Vec<_> = firsts.iter().map(|f| header_of(f, "alg")).collect();
    assert_eq!(algorithms, ["ES256", "EdDSA", "RS256", "HS256"]);
    for doorward in &*setups {
        for bearer in &firsts {
            tally.good(doorward, bearer).await;
        }
        assert_eq!(header_of(&log_in(doorward.http, BOB).await, "alg"), "HS256");
        let published = send(doorward.http, "GET", "/.well-known/jwks.json", &[], "").await;
        assert_eq!(published.json()["keys"].as_array().unwrap().len(), 3);
    }
    assert_eq!(tally.refusals.lock().unwrap().len(), 0);
    eprintln!("{logins} logins and {checks} checks through three rotations");
}
