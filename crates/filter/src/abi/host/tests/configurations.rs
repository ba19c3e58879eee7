//! Configurations, and the feed that they follow.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use doorward_core::revocation::Revocations;
use doorward_rules::feed::{Query, Rendered, Server};

use super::*;
use crate::{clock::now, settings::Settings, state};

/// Doorward's side of the feed.
struct Replica {
    server: Server,
    content: Rendered,
}

impl Replica {
    fn new() -> Self {
        let revoked = Revocations::new(None).with_journal();
        revoked.have_been_read(now());
        let settings = Settings::read(with(json!({})).as_bytes()).unwrap();
        Self {
            server: Server::new(Arc::new(revoked)),
            content: settings.content(None).unwrap().render().unwrap(),
        }
    }

    /// The answer to the last request that a configuration sent.
    fn answer(&self, config: &FakeConfig) -> Vec<u8> {
        let sent = config.sent();
        let path = value(&sent.last().unwrap().headers, ":path").unwrap();
        let query = Query::parse(path.split_once('?').unwrap().1).unwrap();
        let answered = self.server.answer(&query, &self.content, now());
        answered.unwrap().body
    }
}

/// A configuration that follows the feed of a cluster. Those of the same cluster share what they know.
fn following(cluster: &str) -> String {
    json!({ "feed": { "cluster": cluster, "every": "50ms" }, "metadata": "doorward" }).to_string()
}

fn status(config: &FakeConfig) -> Option<u32> {
    let request = config.request(&get("/public/a", &[]), None);
    request.headers(true);
    request.outcome().answer.map(|answer| answer.status)
}

/// Runs what is scheduled until the module has sent as many requests.
fn until_sent(config: &FakeConfig, count: usize) {
    let start = Instant::now();
    while config.sent().len() < count {
        assert!(start.elapsed() < Duration::from_secs(60));
        config.run();
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the thread of the module, which ends when nothing follows a feed.
fn until_nothing_runs() {
    let start = Instant::now();
    while state::runs() {
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_broken_configuration_is_refused_with_one_line() {
    let texts: [&[u8]; 9] = [
        b"",
        b"\xff\xfe",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"{\"feed\":{\"cluster\":\"a\"},\"\\n\":1}",
        b"{\"content\":{\"keys\":[]}}",
        b"{\"content\":1,\"rules_file\":\"/nowhere\"}",
    ];
    for text in texts {
        for make in [FakeConfig::filter, FakeConfig::bootstrap] {
            lines();
            assert!(make(text).is_none());
            let lines = lines();
            let [line] = &*lines else {
                panic!("{lines:?}");
            };
            assert!(
                line.starts_with("doorward: ") && !line.contains('\n'),
                "{line}"
            );
        }
    }
}

#[test]
fn a_filter_without_metrics_is_refused() {
    lines();
    assert!(FakeConfig::without_metrics(with(json!({})).as_bytes()).is_none());
    assert!(lines()[0].contains("refused to define the metric"));
}

#[test]
fn a_filter_follows_the_feed() {
    let replica = Replica::new();
    {
        let config = FakeConfig::filter(following("followed").as_bytes()).unwrap();
        assert_eq!(status(&config), Some(503));
        until_sent(&config, 1);
        // Answers that cannot be used change nothing.
        config.answer(None);
        config.answer(Some((b"200", b"{}")));
        for (at, broken) in [(b"404", &b""[..]), (b"400", b"\xff"), (b"200", b"\xff")]
            .into_iter()
            .enumerate()
        {
            until_sent(&config, at + 2);
            config.answer(Some((broken.0, broken.1)));
            assert_eq!(status(&config), Some(503));
        }
        config.refuse_calls(true);
        config.run();
        config.refuse_calls(false);
        until_sent(&config, 5);
        let answer = replica.answer(&config);
        config.answer(Some((b"200", &answer)));
        assert_eq!(status(&config), None);
        // It is not asked for again.
        config.answer(Some((b"200", &answer)));
        assert_eq!(status(&config), None);
        // Another configuration of the same feed knows it already, and asks when the first one is gone.
        let other = FakeConfig::filter(following("followed").as_bytes()).unwrap();
        assert_eq!(status(&other), None);
        until_sent(&other, 1);
        drop(config);
        until_sent(&other, 2);
    }
    until_nothing_runs();
}

#[test]
fn a_bootstrap_extension_holds_envoys_start_until_the_feed_is_complete() {
    let replica = Replica::new();
    {
        let config = FakeConfig::bootstrap(following("held").as_bytes()).unwrap();
        until_sent(&config, 1);
        assert_eq!(config.starts(), 0);
        config.answer(None);
        assert_eq!(config.starts(), 0);
        until_sent(&config, 2);
        let answer = replica.answer(&config);
        config.answer(Some((b"200", &answer)));
        config.answer(Some((b"200", &answer)));
        assert_eq!((config.starts(), config.shut_down()), (1, 1));
        let filter = FakeConfig::filter(following("held").as_bytes()).unwrap();
        assert_eq!(status(&filter), None);
        // Envoy ends the extension first.
        drop(config);
        assert_eq!(status(&filter), None);
    }
    until_nothing_runs();
}

#[test]
fn nothing_is_sent_where_envoy_only_validates() {
    validate(true);
    let bootstrap = FakeConfig::bootstrap(following("validated").as_bytes()).unwrap();
    let filter = FakeConfig::filter(following("validated").as_bytes()).unwrap();
    validate(false);
    assert_eq!(
        (bootstrap.starts(), bootstrap.run(), filter.run()),
        (1, 0, 0)
    );
}
