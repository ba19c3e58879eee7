//! The module and faults of its feed: answers that are truncated, changed, repeated, rolled back or far too long; a
//! Doorward that is killed and started again under load; and replicas that are restarted in turn.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    front::{BOB, Front, log_in},
    harness::{
        Database, Doorward, Envoy, EnvoyConfig, Home, PATIENCE, Service, Settings, Sqlite,
        own_address, repository, send, try_send, until,
    },
    load::Load,
};

/// What a peer between Envoy and Doorward does to an answer of the feed.
#[derive(Clone, Debug)]
enum Lie {
    None,
    Truncated,
    NotJson,
    WrongType,
    UnknownMember,
    OtherFormat,
    OtherQuestion,
    RolledBack,
    WeakContent,
    Huge,
    NotFound,
    /// An earlier answer.
    Old(Vec<u8>),
}

/// A peer between Envoy and Doorward.
#[derive(Clone)]
struct Between {
    doorward: SocketAddr,
    lie: Arc<Mutex<Lie>>,
    last: Arc<Mutex<Vec<u8>>>,
}

impl Between {
    async fn start(doorward: SocketAddr) -> (Self, SocketAddr) {
        let own = Self {
            doorward,
            lie: Arc::new(Mutex::new(Lie::None)),
            last: Arc::default(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(own.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (own, address)
    }

    fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
    }
}

async fn answer(State(between): State<Between>, request: Request) -> Response {
    let target = request.uri().path_and_query().unwrap().to_string();
    let lie = between.lie.lock().unwrap().clone();
    // Without `have`, the answer contains the content.
    let target = match matches!(lie, Lie::WeakContent) {
        true => target.split("&have=").next().unwrap().to_owned(),
        false => target,
    };
    let Ok(reply) = try_send(between.doorward, "GET", &target, &[], "").await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let changed = |change: fn(&mut Value)| {
        let mut answer = reply.json();
        change(&mut answer);
        answer.to_string().into_bytes()
    };
    let body = match lie {
        Lie::None => {
            *between.last.lock().unwrap() = reply.body.to_vec();
            reply.body.to_vec()
        }
        Lie::Truncated => reply.body[..reply.body.len() / 2].to_vec(),
        Lie::NotJson => b"<html>".to_vec(),
        Lie::WrongType => changed(|answer| answer["more"] = json!("false")),
        Lie::UnknownMember => changed(|answer| answer["cookies"] = json!(true)),
        Lie::OtherFormat => changed(|answer| answer["format"] = json!(2)),
        Lie::OtherQuestion => changed(|answer| answer["answers"] = json!("another")),
        Lie::RolledBack => changed(|answer| answer["position"] = json!(0)),
        Lie::WeakContent => changed(|answer| {
            answer["digest"] = json!("0123456789abcdef");
            answer["content"]["rules"] = json!([{"path": "/*", "allow": "everybody"}]);
        }),
        Lie::Huge => vec![b' '; 100 * 1024 * 1024],
        Lie::NotFound => return StatusCode::NOT_FOUND.into_response(),
        Lie::Old(body) => body,
    };
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn prepared(choose: impl FnOnce(&mut Settings)) -> Home {
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    Doorward::prepare(|settings| {
        settings.toml(rules).env("DOORWARD_FEED__ENABLED", "true");
        choose(settings);
    })
}

/// A Doorward with a feed, a published key and one user.
pub async fn home(choose: impl FnOnce(&mut Settings)) -> Home {
    let home = prepared(choose);
    home.run(&["migrate"], "").await.ok();
    home.run(&["keys", "generate", "ES256"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_feed_changes_nothing_and_becomes_stale() {
    let version = Envoy::NEWEST;
    let doorward = home(|_| {}).await.serve().await;
    let (between, address) = Between::start(doorward.http).await;
    let front = Front::before(version, doorward, |_| {
        EnvoyConfig::module().doorward_http(address)
    })
    .await;
    let (bob, gone) = (front.bearer(BOB).await, front.bearer(BOB).await);
    let status = async |bearer: &str| {
        let headers = [("authorization", bearer)];
        front.send("GET", "/profile", &headers).await.status
    };
    until("everything is known", PATIENCE, async || {
        (status(&bob).await == 200 && status(&gone).await == 200).then_some(())
    })
    .await;
    let old = between.last.lock().unwrap().clone();
    let headers = [("authorization", &*gone)];
    // At Doorward itself, so that the module learns of it from the feed.
    send(front.doorward.http, "POST", "/logout", &headers, "").await;
    until("the logout is known", Duration::from_secs(3), async || {
        (status(&gone).await == 401).then_some(())
    })
    .await;

    for (lie, says) in [
        (Lie::Truncated, "cannot be read"),
        (Lie::NotJson, "cannot be read"),
        (Lie::WrongType, "cannot be read"),
        (Lie::UnknownMember, "unknown field"),
        (Lie::OtherFormat, "is of format 2"),
        (Lie::OtherQuestion, "answers another question"),
        (Lie::Old(old.clone()), "answers another question"),
        (Lie::RolledBack, "goes back"),
        (Lie::WeakContent, "cannot be in force"),
        // Envoy may give up first, because of `feed.timeout`.
        (Lie::Huge, "an answer of the feed was refused"),
        (Lie::NotFound, "404"),
    ] {
        let count = || front.envoy.log().matches(says).count();
        let before = count();
        between.tell(lie.clone());
        until(&format!("{lie:?} is refused"), PATIENCE, async || {
            (count() > before).then_some(())
        })
        .await;
        assert_eq!(status(&bob).await, 200, "{version} {lie:?}");
        assert_eq!(status(&gone).await, 401, "{version} {lie:?}");
        assert_eq!(front.send("GET", "/healthz", &[]).await.status, 200);
        between.tell(Lie::None);
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }

    // Without a good answer, tokens get 503; public routes still work.
    between.tell(Lie::Truncated);
    until("the feed is too old", PATIENCE, async || {
        (status(&bob).await == 503).then_some(())
    })
    .await;
    assert_eq!(front.send("GET", "/healthz", &[]).await.status, 200);
    assert_eq!(status(&gone).await, 503);
    between.tell(Lie::None);
    until("tokens are judged again", PATIENCE, async || {
        (status(&bob).await == 200).then_some(())
    })
    .await;
    assert_eq!(status(&gone).await, 401, "{version}");
}

fn at(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!("address: {ip}, port_value: {port} }}")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_revoked_token_passes_if_doorward_is_killed_under_load() {
    for version in Envoy::WITH_MODULES {
        let (grpc, http) = (own_address(), own_address());
        let home = home(|settings| {
            settings
                .env("DOORWARD_LISTEN__GRPC", grpc.to_string())
                .env("DOORWARD_LISTEN__HTTP", http.to_string());
        });
        let front = Front::before(version, home.await.serve().await, |_| {
            EnvoyConfig::module()
                .replace("stale_after: 10s", "stale_after: 3s")
                .replace(
                    "127.0.0.1, port_value: 9001",
                    &format!("{}, port_value: 9001", grpc.ip()),
                )
                .replace(
                    "127.0.0.1, port_value: 9002",
                    &format!("{}, port_value: 9002", http.ip()),
                )
        });
        let front = front.await;
        let (bob, gone) = (front.bearer(BOB).await, front.bearer(BOB).await);
        let headers = [("authorization", &*gone)];
        let reply = front.send("POST", "/logout", &headers).await;
        assert_eq!(reply.status, 200);
        let Front {
            mut doorward,
            envoy,
            service: _service,
        } = front;
        let status = async || {
            let headers = [("authorization", &*bob)];
            send(envoy.edge, "GET", "/profile", &headers, "")
                .await
                .status
        };
        until("the first feed", PATIENCE, async || {
            (status().await == 200).then_some(())
        })
        .await;
        let load = Load::start(envoy.edge, &[(&bob, &[200, 503]), (&gone, &[401, 503])]);
        for _ in 0..2 {
            let home = doorward.kill();
            assert_eq!(status().await, 200, "{version}");
            until("the feed is too old", PATIENCE, async || {
                (status().await == 503).then_some(())
            })
            .await;
            doorward = home.serve().await;
            until("tokens pass again", PATIENCE, async || {
                (status().await == 200).then_some(())
            })
            .await;
        }
        load.end(20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_restarted_in_turn_do_not_interrupt_the_module() {
    let database = Database::<Sqlite>::start().await;
    let addresses = [
        (own_address(), own_address()),
        (own_address(), own_address()),
    ];
    let keys = tempfile::tempdir().unwrap();
    let own = |(grpc, http): (SocketAddr, SocketAddr)| {
        let (env, keys) = (database.env(), keys.path().display().to_string());
        move |settings: &mut Settings| {
            settings
                .envs(env)
                .env("DOORWARD_JWT__KEYS_DIR", keys)
                .env("DOORWARD_LISTEN__GRPC", grpc.to_string())
                .env("DOORWARD_LISTEN__HTTP", http.to_string());
        }
    };
    let first = home(own(addresses[0])).await.serve().await;
    let second = prepared(own(addresses[1])).serve().await;
    let mut replicas = vec![first, second];
    let both = |text: EnvoyConfig, port: u16, own: [SocketAddr; 2]| {
        let one = |address: &str| {
            format!(
                "              - endpoint:\n                  address:\n                    socket_address: {{ {address}"
            )
        };
        let from = one(&format!("address: 127.0.0.1, port_value: {port} }}"));
        text.replace(&from, &own.map(|own| one(&at(own))).join("\n"))
    };
    let config = EnvoyConfig::module().free_ports();
    let config = both(config, 9001, addresses.map(|(grpc, _)| grpc));
    let config = both(config, 9002, addresses.map(|(_, http)| http));
    let service = Service::start().await;
    let envoy = Envoy::start(Envoy::NEWEST, &config.service(service.address)).await;
    let (bob, gone) = (
        log_in(replicas[0].http, BOB).await,
        log_in(replicas[1].http, BOB).await,
    );
    let headers = [("authorization", &*gone)];
    send(replicas[0].http, "POST", "/logout", &headers, "").await;
    let status = async |bearer: &str| {
        let headers = [("authorization", bearer)];
        send(envoy.edge, "GET", "/profile", &headers, "")
            .await
            .status
    };
    until("all is known", PATIENCE, async || {
        (status(&bob).await == 200 && status(&gone).await == 401).then_some(())
    })
    .await;
    let load = Load::start(envoy.edge, &[(&bob, &[200]), (&gone, &[401])]);
    for _ in 0..3 {
        let (home, exit) = replicas.remove(0).stop().await;
        assert!(exit.success(), "{exit}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        replicas.push(home.serve().await);
    }
    // A logout at the replica that was restarted last is known too.
    let last = log_in(replicas[0].http, BOB).await;
    let headers = [("authorization", &*last)];
    send(replicas[1].http, "POST", "/logout", &headers, "").await;
    until("the logout is known", Duration::from_secs(3), async || {
        (status(&last).await == 401).then_some(())
    })
    .await;
    load.end(20).await;
}
