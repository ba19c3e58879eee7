//! Two Doorwards on one database: a token revoked at one is refused at the other, and failed logins count at both.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    direct::{bearer, judged, login, login_from, post},
    front::{BOB, Front, basic},
    harness::{Database, Doorward, Engine, Envoy, PATIENCE, Server, Settings, send, until},
};

const SECRET: &str = "2b7e151628aed2a6abf7158809cf4f3c";

/// A change at one replica takes effect at the other within this time.
const SOON: Duration = Duration::from_secs(2);

/// The addresses from which an owner logs in and a stranger guesses.
const OWNER: &str = "198.51.100.7";
const STRANGER: &str = "203.0.113.9";

on_each_database!(
    a_revocation_at_one_replica_holds_at_the_other_and_after_a_restart,
    a_user_who_is_inactive_in_an_existing_table_is_refused,
    failures_at_all_replicas_count_together,
    failures_from_elsewhere_do_not_delay_familiar_addresses,
    a_burst_is_read_again_only_during_the_overlap,
    administrators_see_counts_and_clear_them,
);

/// Tests that stop the database, which must be a server.
mod away {
    use super::*;

    on_each_server!(
        tokens_pass_or_get_503_as_configured,
        more_revocations_than_one_page_are_all_read
    );

    /// All revocations have the same second, so a page ends among them.
    async fn more_revocations_than_one_page_are_all_read<S: Server>() {
        const MANY: usize = 12_000;
        let database = Database::<S>::start().await;
        let replica = replica(&database, |_| {}).await;
        replica.add_user(BOB.0, BOB.1, &[]).await;
        let tokens = [
            bearer(&replica, BOB).await,
            bearer(&replica, BOB).await,
            bearer(&replica, BOB).await,
        ];
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        // In the order of reading, these come first, in between and last.
        let others = (0..MANY).map(|number| match number % 2 {
            0 => format!("+{number:08}"),
            _ => format!("~{number:08}"),
        });
        let ended = others.chain(tokens[..2].iter().map(|token| id(token)));
        let rows: Vec<_> = ended
            .map(|id| format!("('{id}', {}, {})", now + 3600, S::CLOCK))
            .collect();
        for rows in rows.chunks(2_000) {
            database.sql(&format!(
                "INSERT INTO doorward_endings (ended_id, expires_at, changed_at) VALUES {}",
                rows.join(", ")
            ));
        }
        until("both are refused", 3 * SOON, async || {
            let first = judged(&replica, &tokens[0]).await.status;
            let second = judged(&replica, &tokens[1]).await.status;
            (first == 401 && second == 401).then_some(())
        })
        .await;
        assert_eq!(judged(&replica, &tokens[2]).await.status, 200);
        let remembered = format!("\ndoorward_revocations {}.0\n", MANY + 2);
        until("all are remembered", 3 * SOON, async || {
            let numbers = send(replica.ops, "GET", "/metrics", &[], "").await;
            numbers.text().contains(&remembered).then_some(())
        })
        .await;
    }

    /// The `jti` of a token.
    fn id(bearer: &str) -> String {
        let claims = bearer.split('.').nth(1).unwrap();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        claims["jti"].as_str().unwrap().to_owned()
    }

    async fn tokens_pass_or_get_503_as_configured<S: Server>() {
        let mut database = Database::<S>::start().await;
        let trusting = replica(&database, |_| {}).await;
        let strict = replica(&database, |settings| {
            settings
                .env("DOORWARD_REVOCATION__WHEN_STALE", "refuse")
                .env("DOORWARD_REVOCATION__STALE_AFTER", "2s");
        })
        .await;
        trusting.add_user(BOB.0, BOB.1, &[]).await;
        let token = bearer(&trusting, BOB).await;
        let refused = async |since: Instant| {
            until("tokens are refused", 3 * SOON, async || {
                assert_eq!(judged(&trusting, &token).await.status, 200);
                let reply = judged(&strict, &token).await;
                if reply.status == 200 {
                    return None;
                }
                assert_eq!(
                    (reply.status, reply.header("retry-after")),
                    (503, Some("1"))
                );
                Some(())
            })
            .await;
            eprintln!("refused {:?} after the last answer", since.elapsed());
            let headers = [("authorization", &*token)];
            let reply = send(strict.http, "GET", "/validate", &headers, "").await;
            assert_eq!(
                reply.status, 503,
                "not a verdict about the token: {reply:?}"
            );
        };
        let good_again = async || {
            let took = soon("good again", async || {
                judged(&strict, &token).await.status == 200
            });
            eprintln!("good again after {:?}", took.await);
        };
        database.stop();
        refused(Instant::now()).await;
        database.cont();
        good_again().await;
        database.kill();
        refused(Instant::now()).await;
        database.restart().await;
        good_again().await;
        assert_eq!(judged(&trusting, &token).await.status, 200);
    }
}

async fn replica<E: Engine>(database: &Database<E>, more: impl FnOnce(&mut Settings)) -> Doorward {
    let env = database.env();
    let home = Doorward::prepare(|settings| {
        settings.envs(env).env("JWT_SECRET", SECRET);
        more(settings);
    });
    home.run(&["migrate"], "").await.ok();
    home.serve().await
}

async fn two<E: Engine>(database: &Database<E>, more: impl Fn(&mut Settings)) -> [Doorward; 2] {
    [
        replica(database, &more).await,
        replica(database, &more).await,
    ]
}

/// Kills both and starts them again.
async fn again([one, other]: [Doorward; 2]) -> [Doorward; 2] {
    let (one, other) = (one.kill(), other.kill());
    [one.serve().await, other.serve().await]
}

/// Waits for a condition, which must hold soon, and gives the time that it took.
async fn soon(what: &str, mut is: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    until(what, 3 * SOON, async || is().await.then_some(())).await;
    let took = start.elapsed();
    assert!(took <= SOON, "{what}: only after {took:?}");
    took
}

async fn a_revocation_at_one_replica_holds_at_the_other_and_after_a_restart<E: Engine>() {
    let database = Database::<E>::start().await;
    let both = two(&database, |_| {}).await;
    let [one, other] = &both;
    let ways: [(&str, &[&str]); 7] = [
        ("POST /logout", &[]),
        ("POST /logout?all", &[]),
        ("user logout", &["user", "logout", "u2"]),
        ("user disable", &["user", "disable", "u3"]),
        ("user passwd", &["user", "passwd", "u4"]),
        ("user role", &["user", "role", "u5", "--grant", "auditor"]),
        ("user remove", &["user", "remove", "u6"]),
    ];
    one.add_user(BOB.0, BOB.1, &[]).await;
    let bystander = bearer(other, BOB).await;
    let (mut ended, mut good) = (vec![], vec![bystander]);
    for (nth, (way, command)) in ways.into_iter().enumerate() {
        let who = (&*format!("u{nth}"), "a-password-of-theirs");
        one.add_user(who.0, who.1, &[]).await;
        let tokens = [bearer(one, who).await, bearer(other, who).await];
        for token in &tokens {
            assert_eq!(judged(other, token).await.status, 200, "{way}");
        }
        let path = way.strip_prefix("POST ");
        match path {
            Some(path) => {
                let headers = [("authorization", &*tokens[0])];
                let reply = send(one.http, "POST", path, &headers, "").await;
                assert_eq!(reply.status, 200, "{way}: {reply:?}");
                assert_eq!(judged(one, &tokens[0]).await.status, 401, "{way}");
            }
            None => {
                one.run(command, "a-password-of-another-kind\n").await.ok();
            }
        }
        let took = soon(way, async || judged(other, &tokens[0]).await.status == 401).await;
        eprintln!("{way}: refused at the other replica after {took:?}");
        let [first, second] = tokens;
        ended.push(first);
        match path {
            Some("/logout") => good.push(second),
            _ => ended.push(second),
        }
        for replica in &both {
            soon(way, async || {
                judged(replica, ended.last().unwrap()).await.status == 401
            })
            .await;
        }
    }
    let holds = async |both: &[Doorward; 2]| {
        for replica in both {
            for token in &ended {
                assert_eq!(judged(replica, token).await.status, 401);
            }
            for token in &good {
                assert_eq!(judged(replica, token).await.status, 200);
            }
        }
    };
    holds(&both).await;
    let both = again(both).await;
    holds(&both).await;
    // Users who were only logged out can log in again.
    for (who, password) in [
        ("u1", "a-password-of-theirs"),
        ("u4", "a-password-of-another-kind"),
    ] {
        let token = bearer(&both[1], (who, password)).await;
        assert_eq!(judged(&both[0], &token).await.status, 200, "{who}");
    }
}

async fn a_user_who_is_inactive_in_an_existing_table_is_refused<E: Engine>() {
    let database = Database::<E>::start().await;
    database.sql("CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL, hash VARCHAR(255) NOT NULL, works_here INTEGER NOT NULL)");
    let password = "correct horse";
    let hash = "$2b$04$WdtKMduT.JSHbG9FedM0FuJ4DEWvKZZZza60Yf7T39JDEQmgZqm9i";
    for (id, name) in [(7, "eva"), (8, "leo")] {
        database.sql(&format!(
            "INSERT INTO people VALUES ({id}, '{name}', '{hash}', 1)"
        ));
    }
    let both = two(&database, |settings| {
        settings.envs([
            ("DOORWARD_USERS__TABLE", "people"),
            ("DOORWARD_USERS__ID", "id"),
            ("DOORWARD_USERS__USERNAME", "name"),
            ("DOORWARD_USERS__PASSWORD", "hash"),
            ("DOORWARD_USERS__ACTIVE", "works_here"),
            (
                "DOORWARD_USERS__INACTIVE_QUERY",
                "SELECT id FROM people WHERE works_here = 0",
            ),
        ]);
    })
    .await;
    let token = bearer(&both[0], ("eva", password)).await;
    let bystander = bearer(&both[1], ("leo", password)).await;
    let becomes = async |status| {
        for replica in &both {
            let took = soon("a flag of the table", async || {
                judged(replica, &token).await.status == status
            })
            .await;
            eprintln!("{status} after {took:?}");
            assert_eq!(judged(replica, &bystander).await.status, 200);
        }
    };
    database.sql("UPDATE people SET works_here = 0 WHERE id = 7");
    becomes(401).await;
    assert_eq!(login(&both[0], ("eva", password)).await.status, 401);
    let both = again(both).await;
    for replica in &both {
        assert_eq!(judged(replica, &token).await.status, 401);
    }
    database.sql("UPDATE people SET works_here = 1 WHERE id = 7");
    for replica in &both {
        soon("the flag again", async || {
            judged(replica, &token).await.status == 200
        })
        .await;
    }
}

/// Nothing newer follows, so the time of the burst stays the newest one.
async fn a_burst_is_read_again_only_during_the_overlap<E: Engine>() {
    const MANY: u64 = 20_000;
    /// Ten seconds and some rounding, at a poll a second or fewer.
    const MOST_READS: u64 = 16;
    let database = Database::<E>::start().await;
    let replica = replica(&database, |settings| {
        settings.env("DOORWARD_DATABASE__TIMEOUT", "5s");
    })
    .await;
    let metric = async |series: &str| {
        let reply = send(replica.ops, "GET", "/metrics", &[], "").await;
        let text = reply.text();
        let count = text.lines().find_map(|own| own.strip_prefix(series));
        let count = count.unwrap_or_else(|| panic!("{text}"));
        count.trim().parse::<u64>().unwrap()
    };
    let rows = async || {
        [
            metric("doorward_sync_rows_total{of=\"revocations\"}").await,
            metric("doorward_sync_rows_total{of=\"failures\"}").await,
        ]
    };
    let polls = async || metric("doorward_revocation_reads_total{result=\"ok\"}").await;
    assert_eq!(rows().await, [0, 0]);
    let now = one_second_ago() / 1000 + 1;
    for start in (0..MANY).step_by(2_000) {
        let values = |value: &dyn Fn(u64) -> String| {
            let rows: Vec<_> = (start..start + 2_000).map(value).collect();
            rows.join(", ")
        };
        let endings = values(&|nth| format!("('burst-{nth:05}', {}, {now})", now + 3600));
        let tallies = values(&|nth| format!("('f:{nth:05}', 0, 1, {now}000, {now})"));
        database.sql(&format!(
            "INSERT INTO doorward_endings (ended_id, expires_at, changed_at) VALUES {endings}"
        ));
        database.sql(&format!(
            "INSERT INTO doorward_tallies (tally_key, epoch, failures, last_failure, changed_at) VALUES {tallies}"
        ));
    }
    let settled = until("polls read nothing", Duration::from_secs(90), async || {
        let (before, start) = (rows().await, polls().await);
        until("three polls", Duration::from_secs(60), async || {
            (polls().await >= start + 3).then_some(())
        })
        .await;
        let read_all = before.iter().all(|count| *count >= MANY);
        (read_all && rows().await == before).then_some(before)
    })
    .await;
    eprintln!("{settled:?} rows were read of {MANY}");
    assert!(
        settled.iter().all(|count| *count <= MANY * MOST_READS),
        "{settled:?}"
    );
    // A later change is found, and those of the burst stay in force.
    let later = one_second_ago() / 1000 + 1;
    database.sql(&format!("INSERT INTO doorward_endings (ended_id, expires_at, changed_at) VALUES ('later', {}, {later})", later + 3600));
    until("the later one is read", 3 * SOON, async || {
        (rows().await[0] > settled[0]).then_some(())
    })
    .await;
    assert!(rows().await[0] < settled[0] + 20);
    let numbers = send(replica.ops, "GET", "/metrics", &[], "").await;
    let remembered = format!("\ndoorward_revocations {}.0\n", MANY + 1);
    assert!(numbers.text().contains(&remembered), "{numbers:?}");
}

fn by_forwarded_for(settings: &mut Settings) {
    settings.env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1");
}

/// Fails logins, fewer than cause a wait.
async fn fail(doorward: &Doorward, name: &str, client: &str, times: usize) {
    for _ in 0..times {
        let reply = login_from(doorward, (name, "a wrong password"), client).await;
        assert_eq!(reply.status, 401, "{name}: {reply:?}");
    }
}

/// Gives the time until an attempt must wait. Its own attempts count too, but they are too few to cause the wait.
async fn must_wait(
    doorward: &Doorward,
    client: &str,
    mut name: impl FnMut() -> String,
) -> Duration {
    let start = Instant::now();
    for _ in 0..5 {
        let reply = login_from(doorward, (&name(), "a wrong password"), client).await;
        if reply.status == 429 {
            let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=300).contains(&seconds), "{reply:?}");
            let took = start.elapsed();
            assert!(took <= SOON, "{took:?}");
            return took;
        }
        assert_eq!(reply.status, 401, "{reply:?}");
        tokio::time::sleep(SOON / 5 + SOON / 40).await;
    }
    panic!("no wait after {:?}", start.elapsed());
}

async fn failures_at_all_replicas_count_together<E: Engine>() {
    let database = Database::<E>::start().await;
    let [one, other] = two(&database, |settings| {
        by_forwarded_for(settings);
        settings.env("DOORWARD_THROTTLE__ADDRESS_FAILURES", "8");
    })
    .await;
    for name in ["bob", "eve"] {
        one.add_user(name, BOB.1, &[]).await;
    }
    for (name, client) in [("bob", "192.0.2.1"), ("nobody-of-that-name", "192.0.2.2")] {
        fail(&one, name, client, 5).await;
        let reply = login_from(&one, (name, "a wrong password"), client).await;
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (429, Some("1"))
        );
        assert_eq!(reply.text(), "Too many attempts");
        // Attempts from another address must wait too.
        let took = must_wait(&other, "192.0.2.3", || name.into()).await;
        eprintln!("{name}: told to wait at the other replica after {took:?}");
    }

    // One address, many names.
    for nth in 0..8 {
        fail(&one, &format!("name-{nth}"), STRANGER, 1).await;
    }
    let mut nth = 100;
    let took = must_wait(&other, STRANGER, || {
        nth += 1;
        format!("name-{nth}")
    })
    .await;
    eprintln!("an address: told to wait at the other replica after {took:?}");
    assert_eq!(login_from(&one, ("eve", BOB.1), STRANGER).await.status, 429);
    assert_eq!(login_from(&one, ("eve", BOB.1), OWNER).await.status, 200);

    // A successful login clears the count at both replicas.
    fail(&one, "eve", OWNER, 4).await;
    assert_eq!(login_from(&one, ("eve", BOB.1), OWNER).await.status, 200);
    tokio::time::sleep(SOON).await;
    fail(&other, "eve", "192.0.2.4", 4).await;
    let reply = login_from(&other, ("eve", BOB.1), "192.0.2.4").await;
    assert_eq!(reply.status, 200);
}

async fn failures_from_elsewhere_do_not_delay_familiar_addresses<E: Engine>() {
    let database = Database::<E>::start().await;
    let both = two(&database, by_forwarded_for).await;
    both[0].add_user(BOB.0, BOB.1, &[]).await;
    assert_eq!(login_from(&both[0], BOB, OWNER).await.status, 200);
    fail(&both[0], BOB.0, STRANGER, 5).await;
    assert_eq!(login_from(&both[0], BOB, STRANGER).await.status, 429);
    for replica in &both {
        assert_eq!(login_from(replica, BOB, OWNER).await.status, 200);
    }
    // Long enough for the rest of the test.
    let written = async || {
        let failures =
            database.sql("SELECT failures FROM doorward_tallies WHERE tally_key LIKE 'n:%'");
        let written = failures.trim().parse::<u32>();
        written.is_ok_and(|written| written >= 5).then_some(())
    };
    until("the failures are written", PATIENCE, written).await;
    database.sql("UPDATE doorward_tallies SET failures = 12 WHERE tally_key LIKE 'n:%'");
    let both = again(both).await;
    for replica in &both {
        for _ in 0..2 {
            assert_eq!(login_from(replica, BOB, STRANGER).await.status, 429);
            assert_eq!(login_from(replica, BOB, OWNER).await.status, 200);
        }
        // Failed logins from the owner's address make that address wait, and no other.
        fail(replica, BOB.0, OWNER, 2).await;
    }
}

async fn administrators_see_counts_and_clear_them<E: Engine>() {
    let database = Database::<E>::start().await;
    let both = two(&database, |settings| {
        by_forwarded_for(settings);
        settings.env("DOORWARD_THROTTLE__ADDRESS_FAILURES", "6");
    })
    .await;
    let [one, _] = &both;
    one.add_user(BOB.0, BOB.1, &[]).await;
    fail(one, BOB.0, "192.0.2.1", 5).await;
    fail(one, "typed-into-the-wrong-field", "192.0.2.2", 5).await;
    fail(one, "another-typed-name", STRANGER, 5).await;
    fail(one, "a-third-typed-name", STRANGER, 1).await;
    let run = async |arguments: &[&str]| one.run(arguments, "").await.ok().stdout;
    let keys = || {
        database
            .sql("SELECT tally_key FROM doorward_tallies")
            .lines()
            .count()
    };
    until("all is written", SOON, async || (keys() == 7).then_some(())).await;
    // Long waits, so that only the clearing can end them.
    let long = || {
        let now = one_second_ago();
        database.sql(&format!("UPDATE doorward_tallies SET failures = 14, last_failure = {now}, changed_at = {now} / 1000 WHERE tally_key NOT LIKE 'f:%'"));
    };
    long();
    tokio::time::sleep(SOON).await;
    for replica in &both {
        for client in ["192.0.2.7", STRANGER] {
            assert_eq!(login_from(replica, BOB, client).await.status, 429);
        }
    }
    let listed: Value =
        serde_json::from_str(&run(&["throttle", "list", "--output", "json"]).await).unwrap();
    let text = run(&["throttle", "list"]).await;
    let counts = listed.as_array().unwrap();
    assert_eq!(counts.len(), 7, "{listed:#}");
    let of = |what: &dyn Fn(&Value) -> bool| counts.iter().filter(|count| what(count)).count();
    assert_eq!(of(&|count| count["username"] == BOB.0), 1, "{listed:#}");
    assert_eq!(of(&|count| count["about"] == "an account"), 4);
    assert_eq!(of(&|count| count["about"] == "address 203.0.113.9/32"), 1);
    assert_eq!(of(&|count| count["failures"] == 14), 7);
    assert!(
        of(&|count| count["wait_seconds"].as_f64() > Some(200.0)) >= 4,
        "{listed:#}"
    );
    assert!(
        text.contains(BOB.0) && text.contains("203.0.113.9"),
        "{text}"
    );
    for shown in [listed.to_string(), text] {
        assert!(!shown.contains("typed"), "{shown}");
    }

    let opens = async |what: &str, client: &str| {
        for replica in &both {
            let took = soon(what, async || {
                let reply = login_from(replica, BOB, client).await;
                assert!([200, 429].contains(&reply.status), "{reply:?}");
                reply.status == 200
            })
            .await;
            eprintln!("{what}: logins again after {took:?}");
        }
    };
    run(&["throttle", "clear", BOB.0]).await;
    opens("throttle clear NAME", "192.0.2.8").await;
    let other_names = login_from(one, (BOB.0, BOB.1), STRANGER).await;
    assert_eq!(
        other_names.status, 429,
        "an address is not cleared with an account"
    );
    run(&["throttle", "clear", "--address", STRANGER]).await;
    opens("throttle clear --address", STRANGER).await;
    run(&["throttle", "clear", "typed-into-the-wrong-field"]).await;
    soon("throttle clear NAME", async || {
        let who = ("typed-into-the-wrong-field", "x");
        login_from(one, who, "192.0.2.9").await.status == 401
    })
    .await;
    let who = ("another-typed-name", "x");
    assert_eq!(login_from(one, who, "192.0.2.9").await.status, 429);
    run(&["throttle", "clear", "--all"]).await;
    for replica in &both {
        soon("throttle clear --all", async || {
            login_from(replica, who, "192.0.2.9").await.status == 401
        })
        .await;
    }
    let nothing = one.run(&["throttle", "clear"], "").await;
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
}

fn one_second_ago() -> u128 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    now.as_millis() - 1000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_request_logs_nobody_in_and_throttles_nobody() {
    let doorward = Doorward::start(|_| {}).await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    for password in ["a wrong password", BOB.1] {
        for _ in 0..8 {
            let credentials = basic(BOB.0, password);
            let headers = [
                ("authorization", &*credentials),
                ("x-original-method", "POST"),
                ("x-original-uri", "/login"),
                ("host", "a"),
            ];
            let reply = send(doorward.http, "GET", "/auth/nginx", &headers, "").await;
            assert_eq!(reply.status, 401, "{reply:?}");
            assert_eq!(reply.header("x-auth-status"), Some("401"), "{reply:?}");
        }
    }
    assert_eq!(login(&doorward, BOB).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_through_envoy_has_retry_after() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    for _ in 0..5 {
        assert_eq!(front.login((BOB.0, "wrong")).await.status, 401);
    }
    let reply = front.login(BOB).await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(reply.text(), "Too many attempts");
    assert_eq!(front.service.requests(), 0);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(front.login(BOB).await.status, 200);
}

/// An attempt counts even if the client does not wait for the answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_counts_even_if_the_client_disconnects() {
    let doorward = Doorward::start(|_| {}).await;
    let body = |name: &str| json!({"username": name, "password": "wrong"}).to_string();
    for name in ["bob", "eve"] {
        doorward.add_user(name, BOB.1, &[]).await;
        let credentials = basic(name, "wrong");
        let body = body(name);
        let request = match name {
            "bob" => {
                format!("POST /login HTTP/1.1\r\nhost: x\r\nauthorization: {credentials}\r\n\r\n")
            }
            _ => format!(
                "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        let before = refusals(&doorward);
        // An attempt whose client disconnects before Doorward reads it does not count, and the client learns nothing.
        for nth in 0..200 {
            if refusals(&doorward) >= before + 5 {
                break;
            }
            let mut stream = TcpStream::connect(doorward.http).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(nth % 20)).await;
        }
        assert_eq!(refusals(&doorward), before + 5, "{}", doorward.output());
        assert_eq!(login(&doorward, (name, BOB.1)).await.status, 429, "{name}");
    }
    let somebody_else = json!({"username": "leo", "password": "x"});
    let reply = post(&doorward, "/login", None, &somebody_else).await;
    assert_eq!(reply.status, 401);
}

fn refusals(doorward: &Doorward) -> usize {
    let log = doorward.log();
    let wrong = log
        .iter()
        .filter(|line| line["fields"]["reason"] == "wrong-password");
    wrong.count()
}
