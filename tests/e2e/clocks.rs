//! Replicas with wrong clocks: revocations stay in force, and the wrong clock is reported.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{
    direct::{Session, bearer, judged, login, login_from, post},
    front::{ADA, BOB},
    harness::{Clock, Database, Doorward, Engine, Home, Server, Settings, send, until},
};

const SECRET: &str = "2b7e151628aed2a6abf7158809cf4f3c";

const EVE: (&str, &str) = ("eve", "keeper-of-the-garden");

/// A change at one replica takes effect at the other within this time.
const SOON: Duration = Duration::from_secs(6);

on_each_database!(
    a_clock_that_is_ahead_undoes_no_logout,
    a_clock_that_is_behind_undoes_no_logout,
    a_machine_that_starts_with_a_wrong_clock_undoes_no_logout,
);

on_each_server!(
    a_wrong_clock_is_reported,
    sessions_and_counts_go_by_the_clock_of_the_database,
    tokens_of_a_clock_that_is_ahead_stay_revoked_until_they_expire,
);

const DAY: i64 = 86400;

/// How many seconds pass until a replica removes expired rows.
const ROUND: i64 = 400;

fn settings<E: Engine>(database: &Database<E>) -> impl Fn(&mut Settings) + use<E> {
    let env = database.env();
    move |settings| {
        settings
            .envs(env.clone())
            .env("JWT_SECRET", SECRET)
            .env("DOORWARD_REFRESH__ENABLED", "true")
            .env("DOORWARD_REFRESH__LIFETIME", "2d")
            .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1");
    }
}

async fn home<E: Engine>(database: &Database<E>) -> Home {
    let home = Doorward::prepare(settings(database));
    home.run(&["migrate"], "").await.ok();
    home
}

/// A replica whose clock is off by `offset` seconds.
async fn under<E: Engine>(database: &Database<E>, offset: i64) -> (Home, Clock) {
    let home = home(database).await;
    let (home, clock) = Clock::under(home);
    clock.set(offset);
    (home, clock)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().cast_signed()
}

async fn metric(doorward: &Doorward, name: &str) -> f64 {
    let reply = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let text = reply.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name}\n{text}"))
        .trim()
        .parse()
        .unwrap()
}

async fn logout(doorward: &Doorward, path: &str, bearer: &str) {
    let reply = post(doorward, path, Some(bearer), &json!({})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Everything that can be revoked, and tokens that are not revoked.
struct Scene {
    ended: Vec<String>,
    good: Vec<String>,
    session: Session,
}

impl Scene {
    async fn set(right: &Doorward) -> Self {
        for (name, password) in [ADA, BOB, EVE] {
            right.add_user(name, password, &[]).await;
        }
        let mut ended = Vec::new();
        ended.push(bearer(right, BOB).await);
        logout(right, "/logout", &ended[0]).await;
        for _ in 0..2 {
            ended.push(bearer(right, EVE).await);
        }
        logout(right, "/logout?all", &ended[1]).await;
        let good = vec![bearer(right, BOB).await, bearer(right, EVE).await];
        let session = Session::of(&login(right, ADA).await);
        let scene = Self {
            ended,
            good,
            session,
        };
        scene.holds(right).await;
        scene
    }

    async fn holds(&self, right: &Doorward) {
        for token in &self.ended {
            assert_eq!(judged(right, token).await.status, 401);
        }
        for token in &self.good {
            assert_eq!(judged(right, token).await.status, 200);
        }
    }
}

/// Expired rows: a session whose removal shows that rows were removed, revocations, and a generation in the future.
fn plant<E: Engine>(database: &Database<E>) {
    let future = (now() + 30 * DAY) * 1000;
    database.sql("INSERT INTO doorward_sessions (session_id, user_id, username, generation, current_hash, rotated_at, expires_at) VALUES ('planted', 'x', 'x', 0, 'x', 1, 1)");
    database.sql(
        "INSERT INTO doorward_endings (ended_id, expires_at, changed_at) VALUES ('planted', 1, 1)",
    );
    database.sql(&format!("INSERT INTO doorward_generations (user_id, generation, expires_at, changed_at) VALUES ('past', 5, 1, 1), ('future', {future}, 1, 1)"));
}

fn count<E: Engine>(database: &Database<E>, table: &str, condition: &str) -> u32 {
    let sql = format!("SELECT COUNT(*) FROM {table} WHERE {condition}");
    database.sql(&sql).trim().parse().unwrap()
}

/// Moves one replica's clock forward until it removes rows; no other clock changes.
async fn swept<E: Engine>(database: &Database<E>, clock: &Clock, offset: i64) {
    let is_there = || count(database, "doorward_sessions", "session_id = 'planted'") == 1;
    assert!(is_there(), "another replica has removed rows already");
    clock.set(offset + ROUND);
    until("rows are removed", 3 * SOON, async || {
        (!is_there()).then_some(())
    })
    .await;
}

async fn a_clock_that_is_ahead_undoes_no_logout<E: Engine>() {
    let database = Database::<E>::start().await;
    let right = home(&database).await.serve().await;
    let scene = Scene::set(&right).await;
    plant(&database);
    let (home, clock) = under(&database, 3 * DAY).await;
    let ahead = home.serve().await;
    swept(&database, &clock, 3 * DAY).await;
    scene.holds(&right).await;
    let right = right.kill().serve().await;
    scene.holds(&right).await;

    // The generation that this replica writes is lower than later ones.
    ahead.run(&["user", "logout", BOB.0], "").await.ok();
    until("bob is logged out", SOON, async || {
        (judged(&right, &scene.good[0]).await.status == 401).then_some(())
    })
    .await;
    let again = bearer(&right, BOB).await;
    assert_eq!(judged(&right, &again).await.status, 200);
    logout(&right, "/logout?all", &again).await;
    let latest = bearer(&right, BOB).await;
    drop(ahead);
    let right = right.kill().serve().await;
    assert_eq!(judged(&right, &again).await.status, 401);
    assert_eq!(judged(&right, &latest).await.status, 200);

    let body = json!({"refresh_token": scene.session.refresh});
    let refreshed = post(&right, "/refresh", None, &body).await;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
}

async fn a_clock_that_is_behind_undoes_no_logout<E: Engine>() {
    let database = Database::<E>::start().await;
    let mut right = home(&database).await.serve().await;
    let mut scene = Scene::set(&right).await;
    let (behind, _clock) = under(&database, -3 * DAY).await;
    // By its clock, all of these tokens expired two days ago.
    behind.run(&["user", "logout", BOB.0], "").await.ok();
    behind.run(&["user", "logout", EVE.0], "").await.ok();
    if E::IS_FILE {
        // A file has no clock of its own; this replica reads rows written three days ago when it starts.
        right = right.kill().serve().await;
    }
    until("both are logged out", SOON, async || {
        for token in &scene.good {
            if judged(&right, token).await.status == 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    scene.ended.append(&mut scene.good);
    scene.good = vec![bearer(&right, BOB).await, bearer(&right, EVE).await];
    scene.holds(&right).await;
    plant(&database);
    let (home, clock) = under(&database, -ROUND).await;
    let sweeper = home.serve().await;
    swept(&database, &clock, -ROUND).await;
    for (table, condition, left) in [
        ("doorward_endings", "ended_id = 'planted'", 0),
        ("doorward_generations", "user_id = 'past'", 0),
        // If it were removed, the next generation would be lower than this one.
        ("doorward_generations", "user_id = 'future'", 1),
    ] {
        assert_eq!(count(&database, table, condition), left, "{condition}");
    }
    scene.holds(&right).await;
    let right = right.kill().serve().await;
    scene.holds(&right).await;
    scene.holds(&sweeper).await;
}

/// The only replica starts with a wrong clock, which is corrected later.
async fn a_machine_that_starts_with_a_wrong_clock_undoes_no_logout<E: Engine>() {
    let database = Database::<E>::start().await;
    let right = home(&database).await.serve().await;
    let scene = Scene::set(&right).await;
    drop(right);
    plant(&database);
    let (home, clock) = under(&database, 3 * DAY).await;
    let alone = home.serve().await;
    swept(&database, &clock, 3 * DAY).await;
    let home = alone.kill().with(|settings| {
        settings.without("LD_PRELOAD");
    });
    scene.holds(&home.serve().await).await;
}

async fn a_wrong_clock_is_reported<S: Server>() {
    let database = Database::<S>::start().await;
    let right = home(&database).await.serve().await;
    let (home, clock) = under(&database, -3600).await;
    let behind = home.serve().await;
    let message = "this clock differs from the database's by more than jwt.leeway";
    let is = |line: &Value| line["fields"]["message"] == message;
    let line = behind.logged("the difference", is).await;
    let seconds = line["fields"]["ahead_seconds"].as_i64().unwrap();
    assert!((-3605..=-3595).contains(&seconds), "{line}");
    let difference = metric(&behind, "doorward_clock_difference_seconds").await;
    assert!((-3605.0..=-3595.0).contains(&difference), "{difference}");
    let limit = metric(&behind, "doorward_clock_difference_limit_seconds").await;
    assert_eq!(limit.to_string(), "30");
    let difference = metric(&right, "doorward_clock_difference_seconds").await;
    assert!(difference.abs() < 5.0, "{difference}");
    assert!(!right.log().iter().any(is));

    // The clock is set; the replica compares clocks every ten seconds.
    clock.set(0);
    until("the clocks agree again", 3 * SOON, async || {
        let is = |line: &Value| {
            line["fields"]["message"] == "this clock agrees with the database's again"
        };
        behind.log().iter().any(is).then_some(())
    })
    .await;
    assert_eq!(behind.log().iter().filter(|line| is(line)).count(), 1);
}

async fn sessions_and_counts_go_by_the_clock_of_the_database<S: Server>() {
    let database = Database::<S>::start().await;
    let right = home(&database).await.serve().await;
    let scene = Scene::set(&right).await;
    let (home, _clock) = under(&database, 3 * DAY).await;
    let ahead = home.serve().await;
    let (home, _clock) = under(&database, -3 * DAY).await;
    let behind = home.serve().await;
    let refresh = async |replica: &Doorward, token: &str| {
        let reply = post(replica, "/refresh", None, &json!({"refresh_token": token})).await;
        let next = reply.header("x-refresh-token").map(str::to_owned);
        (reply.status, next)
    };
    // Sessions last two days, and every replica repeats an answer that was lost.
    let first = scene.session.refresh.clone();
    let (status, second) = refresh(&ahead, &first).await;
    assert_eq!(status, 200, "{}", ahead.output());
    for replica in [&right, &behind, &ahead] {
        assert_eq!(refresh(replica, &first).await, (200, second.clone()));
    }
    let (_, third) = refresh(&behind, second.as_ref().unwrap()).await;
    assert!(third.is_some());
    database.sql("UPDATE doorward_sessions SET rotated_at = rotated_at - 3600000");
    // One hour is beyond the grace period, also for a clock that is behind.
    assert_eq!(refresh(&behind, second.as_ref().unwrap()).await.0, 401);
    assert_eq!(refresh(&right, third.as_ref().unwrap()).await.0, 401);

    // Failures at one replica do not cause waits of days at another, and all failures count.
    for replica in [&ahead, &behind, &ahead, &behind, &ahead, &behind, &ahead] {
        login_from(replica, (BOB.0, "a wrong password"), "203.0.113.9").await;
    }
    until("the counts are read", SOON, async || {
        let rows = database.sql("SELECT MAX(failures) FROM doorward_tallies");
        (rows.trim().parse::<u32>().unwrap() >= 5).then_some(())
    })
    .await;
    for replica in [&right, &ahead, &behind] {
        until("all replicas make them wait", SOON, async || {
            let reply = login_from(replica, (BOB.0, "a wrong password"), "198.51.100.4").await;
            if reply.status != 429 {
                return None;
            }
            let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=300).contains(&seconds), "{reply:?}");
            Some(())
        })
        .await;
    }
}

/// Other replicas refuse these tokens today. They become valid in three days, when their revocation is older than any
/// token lives.
async fn tokens_of_a_clock_that_is_ahead_stay_revoked_until_they_expire<S: Server>() {
    let database = Database::<S>::start().await;
    let right = home(&database).await.serve().await;
    let scene = Scene::set(&right).await;
    let (home, _clock) = under(&database, 3 * DAY).await;
    let ahead = home.serve().await;
    let future = bearer(&ahead, BOB).await;
    assert_eq!(judged(&ahead, &future).await.status, 200);
    assert_eq!(judged(&right, &future).await.status, 401);
    logout(&right, "/logout?all", &scene.good[0]).await;
    until("it is known", SOON, async || {
        (judged(&ahead, &future).await.status == 401).then_some(())
    })
    .await;
    drop((ahead, right));
    // Three days pass for the rows, and then for a replica.
    for table in ["endings", "generations"] {
        database.sql(&format!(
            "UPDATE doorward_{table} SET changed_at = changed_at - 3 * {DAY}, expires_at = expires_at - 3 * {DAY}"
        ));
    }
    plant(&database);
    let (home, clock) = under(&database, -ROUND).await;
    let later = home.serve().await;
    swept(&database, &clock, -ROUND).await;
    drop(later);
    let (home, _clock) = under(&database, 3 * DAY).await;
    let later = home.serve().await;
    assert_eq!(judged(&later, &future).await.status, 401);
}
