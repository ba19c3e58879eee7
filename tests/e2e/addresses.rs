//! The client address: what gateways write, what happens to clients whose address is not known, and that no spelling of
//! an address bypasses the throttle.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    direct::login_with,
    front::{ADA, Front, basic},
    harness::{Doorward, Envoy, EnvoyConfig, PATIENCE, Reply, Settings, send, until},
};

/// A way to log in, for a client whose address a load balancer in front of the gateway writes into a header.
enum Way {
    /// Through Envoy, which appends the address of its own peer.
    Envoy(Box<Front>),
    /// At the HTTP port.
    Port(Box<Doorward>),
}

impl Way {
    /// Every way. The closure receives the position, from the right, of the header value that the load balancer writes.
    async fn all(choose: impl Fn(&mut Settings, usize)) -> Vec<Self> {
        let mut ways = Vec::new();
        for version in Envoy::VERSIONS {
            for raw in [false, true] {
                let config = |config: EnvoyConfig| match raw {
                    true => config.raw_headers(),
                    false => config,
                };
                let front = Front::open(version, |settings| choose(settings, 2), config).await;
                ways.push(Self::Envoy(Box::new(front)));
            }
        }
        let doorward = Doorward::start(|settings| choose(settings, 1)).await;
        ways.push(Self::Port(Box::new(doorward)));
        ways
    }

    fn doorward(&self) -> &Doorward {
        match self {
            Self::Envoy(front) => &front.doorward,
            Self::Port(doorward) => doorward,
        }
    }

    /// Sends a wrong password for a new name that does not exist.
    async fn guess(&self, number: usize, headers: &[(&str, &str)]) -> u16 {
        let who = (&*format!("user{number}"), "a wrong password");
        let reply = match self {
            Self::Envoy(front) => {
                let credentials = basic(who.0, who.1);
                let headers = [headers, &[("authorization", &credentials)]].concat();
                front.send("POST", "/login", &headers).await
            }
            Self::Port(doorward) => login_with(doorward, who, headers).await,
        };
        assert!([401, 429].contains(&reply.status), "{reply:?}");
        reply.status
    }

    /// Asserts that `free` of these guesses are answered, and one more after each interval `again`. Gives the number of
    /// answered guesses.
    async fn guesses_are(
        &self,
        free: usize,
        again: Duration,
        values: impl Iterator<Item = String>,
    ) -> usize {
        let started = Instant::now();
        let answered = self.guesses(values).await;
        let given_back = started.elapsed().as_millis() / again.as_millis() + 1;
        let most = free + usize::try_from(given_back).unwrap();
        assert!((free..=most).contains(&answered), "{answered}");
        answered
    }

    /// How many of these guesses are answered before the first one that must wait.
    async fn guesses(&self, values: impl Iterator<Item = String>) -> usize {
        for (number, value) in values.enumerate() {
            if self.guess(number, &[("x-forwarded-for", &value)]).await == 429 {
                return number;
            }
        }
        usize::MAX
    }

    async fn number(&self, metric: &str) -> f64 {
        number(self.doorward(), metric).await
    }

    /// The kinds of the warnings about addresses.
    fn warnings(&self) -> Vec<String> {
        warnings(self.doorward())
    }
}

async fn number(doorward: &Doorward, metric: &str) -> f64 {
    let numbers = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let line = numbers.text().lines().find_map(|line| {
        let rest = line.strip_prefix(metric)?;
        rest.strip_prefix(' ')?.parse().ok()
    });
    line.unwrap_or_else(|| panic!("{metric}: {}", numbers.text()))
}

fn warnings(doorward: &Doorward) -> Vec<String> {
    let lines = doorward.log().into_iter();
    let lines = lines.filter(|line| {
        let message = line["fields"]["message"].as_str().unwrap_or_default();
        message.starts_with("the address of a client is not known")
    });
    lines
        .map(|line| {
            assert_eq!(line["level"], "WARN");
            let cause = line["fields"]["cause"].as_str().unwrap();
            assert!(cause.contains("set ") || cause.contains("let "), "{line}");
            line["fields"]["kind"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn limits(settings: &mut Settings, from_the_right: usize) {
    settings
        .env(
            "DOORWARD_CLIENT_ADDRESS",
            format!("x-forwarded-for:{from_the_right}"),
        )
        .env("DOORWARD_THROTTLE__ADDRESS_FAILURES", "4")
        .env("DOORWARD_THROTTLE__UNKNOWN_ADDRESS_FAILURES", "6");
}

const ONE_SECOND: Duration = Duration::from_secs(1);

const WITHOUT: &str = "doorward_attempts_without_address_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_port_after_an_address_does_not_bypass_the_throttle() {
    for way in Way::all(limits).await {
        let ports = || 4711..4811;
        let spellings: [Vec<String>; 4] = [
            // The format of Azure Application Gateway, and of an ALB with client_port.
            ports().map(|port| format!("203.0.113.6:{port}")).collect(),
            ports()
                .map(|port| format!("[2001:db8::1]:{port}"))
                .collect(),
            ports()
                .map(|port| format!("1.1.1.{}, [2001:db8:1::1]", port % 250))
                .collect(),
            // Values that the client has written stand to the left.
            ports()
                .map(|port| format!("10.9.9.{}:80 ,203.0.113.7:{port}", port % 250))
                .collect(),
        ];
        for spelling in spellings {
            let first = spelling[0].clone();
            assert_eq!(way.guesses(spelling.into_iter()).await, 4, "{first}");
        }
        assert_eq!(
            way.number(&format!(
                "{}{}",
                "doorward_throttled_total", r#"{by="address"}"#
            ))
            .await,
            4.0
        );
        assert_eq!(way.warnings(), [""; 0]);
        let line = way
            .doorward()
            .logged("who", |line| line["fields"]["client"] == "203.0.113.6")
            .await;
        assert_eq!(line["fields"]["reason"], "unknown-user");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_forwarded_for_headers_are_one_list() {
    for way in Way::all(limits).await {
        let mut answers = Vec::new();
        for number in 0..5 {
            let own = format!("198.51.100.{number}");
            let headers = [
                ("x-forwarded-for", &*own),
                ("x-forwarded-for", "203.0.113.6"),
            ];
            answers.push(way.guess(number, &headers).await);
        }
        assert_eq!(answers, [401, 401, 401, 401, 429]);
    }
    // The relevant address may stand in a header before the last one.
    for way in Way::all(|settings, from_the_right| limits(settings, from_the_right + 1)).await {
        let mut answers = Vec::new();
        for number in 0..5 {
            let own = format!("198.51.100.{number}, 203.0.113.6");
            let headers = [("x-forwarded-for", &*own), ("x-forwarded-for", "10.0.0.9")];
            answers.push(way.guess(number, &headers).await);
        }
        assert_eq!(answers, [401, 401, 401, 401, 429]);
        assert_eq!(way.warnings(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_whose_address_is_not_known_are_counted_together() {
    let more_hops = |settings: &mut Settings, from_the_right| limits(settings, from_the_right + 1);
    for way in Way::all(more_hops).await {
        let values = (0..100).map(|number| format!("203.0.113.{number}"));
        let answered = way.guesses_are(6, ONE_SECOND, values).await;
        let cause = format!("{WITHOUT}{}", r#"{cause="too-few-hops"}"#);
        assert_eq!(way.number(&cause).await, answered as f64 + 1.0);
        let throttled = r#"doorward_throttled_total{by="unknown-address"}"#;
        assert_eq!(way.number(throttled).await, 1.0);
        assert_eq!(way.warnings(), ["too-few-hops"]);
        // Nobody is locked out: a second later, an attempt is admitted again.
        until("one more attempt is admitted", PATIENCE, async || {
            let answer = way.guess(99, &[("x-forwarded-for", "203.0.113.99")]).await;
            (answer == 401).then_some(())
        })
        .await;
        // Clients with a known address are not affected.
        let two = [("x-forwarded-for", "203.0.113.6, 10.0.0.9")];
        assert_eq!(way.guess(200, &two).await, 401);
    }
    for way in Way::all(limits).await {
        let garbage = [
            "unknown",
            "for=203.0.113.6",
            "fe80::1%eth0",
            "[203.0.113.6]:80",
        ];
        let values = garbage
            .iter()
            .cycle()
            .take(100)
            .map(|value| (*value).to_owned());
        way.guesses_are(6, ONE_SECOND, values).await;
        assert_eq!(way.warnings(), ["malformed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_own_address_is_not_a_clients() {
    let peer = |settings: &mut Settings, from_the_right| {
        limits(settings, from_the_right);
        settings.env("DOORWARD_CLIENT_ADDRESS", "peer");
    };
    for way in Way::all(peer).await {
        let values = (0..100).map(|number| format!("203.0.113.{number}"));
        let answered = way.guesses_are(6, ONE_SECOND, values).await;
        let cause = format!("{WITHOUT}{}", r#"{cause="trusted-proxy"}"#);
        assert_eq!(way.number(&cause).await, answered as f64 + 1.0);
        assert_eq!(way.warnings(), ["trusted-proxy"]);
    }
    // The same holds if the header is missing; and a registration counts like a login.
    let doorward = Doorward::start(|settings| {
        limits(settings, 1);
        settings.env("DOORWARD_SELF_SERVICE__REGISTER", "true");
    })
    .await;
    let register = async |number: usize| -> Reply {
        let body = format!("{{\"username\":\"user{number}\",\"password\":\"short\"}}");
        let headers = [("content-type", "application/json")];
        send(doorward.http, "POST", "/register", &headers, body).await
    };
    // Sent all at once, so that few failures expire meanwhile.
    let answers = futures_util::future::join_all((0..40).map(register)).await;
    let taken = answers.iter().filter(|reply| reply.status == 400).count();
    let later = answers.iter().filter(|reply| reply.status == 429).count();
    assert!(
        taken >= 6 && later >= 1 && taken + later == 40,
        "{taken}, {later}"
    );
    assert_eq!(warnings(&doorward), ["no-header"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_48_prefix_has_one_limit_for_all_its_networks() {
    for way in Way::all(limits).await {
        let values = (0..100).map(|number| format!("2001:db8:7:{number:x}::1"));
        way.guesses_are(40, 6 * ONE_SECOND, values).await;
        let throttled = r#"doorward_throttled_total{by="network"}"#;
        assert_eq!(way.number(throttled).await, 1.0);
        // A single /64 reaches its own limit much earlier.
        let alone = (0..100).map(|number| format!("2001:db8:8:1::{number:x}"));
        assert_eq!(way.guesses(alone).await, 4);
        let neighbour = [("x-forwarded-for", "2001:db8:8:2::1")];
        assert_eq!(way.guess(300, &neighbour).await, 401);
    }
}

/// The header of Istio, Envoy Gateway and other Envoys at the edge: the address that they trust, whatever a client sends.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_envoy_reports_client_addresses() {
    for version in Envoy::VERSIONS {
        let front = Front::open(
            version,
            |settings| {
                settings
                    .env("DOORWARD_CLIENT_ADDRESS", "x-envoy-external-address")
                    .env("DOORWARD_THROTTLE__ADDRESS_FAILURES", "4");
            },
            // Behind one load balancer, which appends its address: numTrustedProxies of Istio, numTrustedHops of Envoy
            // Gateway.
            |config| {
                config.replace(
                    "use_remote_address: true",
                    "use_remote_address: true\n                xff_num_trusted_hops: 1",
                )
            },
        )
        .await;
        let way = Way::Envoy(Box::new(front));
        let mut answers = Vec::new();
        for number in 0..5 {
            let forged = format!("198.51.100.{number}");
            let list = format!("{forged}, 203.0.113.6");
            let headers = [
                ("x-envoy-external-address", &*forged),
                ("x-forwarded-for", &*list),
            ];
            answers.push(way.guess(number, &headers).await);
        }
        assert_eq!(answers, [401, 401, 401, 401, 429], "{version}");
        let line = way
            .doorward()
            .logged("who", |line| line["fields"]["reason"] == "throttled")
            .await;
        assert_eq!(line["fields"]["client"], "203.0.113.6", "{version}");
    }
}

/// Doorward warns at every start and every reload if it trusts every address.
#[tokio::test(flavor = "multi_thread")]
async fn trusting_every_address_causes_a_warning() {
    let rules = |trusted: &str| {
        format!("trusted_proxies = {trusted}\n[[route]]\npath = '/*'\nallow = 'signed-in'\n")
    };
    let told = |doorward: &Doorward| {
        let lines = doorward.log().into_iter();
        let lines = lines.filter(|line| {
            let message = line["fields"]["message"].as_str().unwrap_or_default();
            message.starts_with("trusted_proxies contains half of the Internet")
                && line["level"] == "WARN"
        });
        lines.count()
    };
    for everybody in [
        "['0.0.0.0/0']",
        "['::/0', '127.0.0.0/8']",
        "['0.0.0.0/1', '128.0.0.0/1']",
        "['2000::/3', '127.0.0.0/8']",
    ] {
        let home = Doorward::prepare(|settings| {
            settings.toml(rules(everybody));
        });
        let said = home.run(&["config", "check"], "").await.ok();
        assert!(
            said.stderr.starts_with("warning: trusted_proxies: "),
            "{said:?}"
        );
        let doorward = home.serve().await;
        assert_eq!(told(&doorward), 1, "{everybody}");
        let (home, _) = doorward.stop().await;
        let doorward = home.serve().await;
        assert_eq!(told(&doorward), 1, "{everybody}: at the second start");
    }
    let doorward = Doorward::start(|settings| {
        settings.toml(rules("['127.0.0.0/8']"));
    })
    .await;
    assert_eq!(told(&doorward), 0);
    let file = doorward.home().dir().join("doorward.toml");
    for times in 1..3 {
        let text = rules("['0.0.0.0/0']") + &"# again\n".repeat(times);
        fs::write(&file, text).unwrap();
        until("it is read again", PATIENCE, async || {
            (told(&doorward) == times).then_some(())
        })
        .await;
    }
    // Then no client address is trusted, and the count for all clients together limits guesses.
    let reply = login_with(&doorward, (ADA.0, "wrong"), &[]).await;
    assert_eq!(reply.status, 401);
    assert_eq!(warnings(&doorward), ["trusted-proxy"]);
}
