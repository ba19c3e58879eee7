//! What a follower learns from one replica and from several.

use std::collections::HashSet;

use doorward_core::{
    issuer::{Issuer, IssuerTerms},
    revocation::Generation,
};
use serde_json::json;

use super::*;

#[test]
fn a_follower_judges_as_the_replica_does() {
    let replica = Replica::usual();
    let token = replica.token("7");
    let mut known = follower();
    assert!(known.in_force().is_none());
    let taken = follow(&mut known, &replica, NOW);
    assert!(taken.complete && taken.exchanged);
    for (path, authorization) in [
        ("/", &*token),
        ("/", ""),
        ("/", "Bearer x.y.z"),
        ("/open", ""),
        ("/open", &token),
        ("/login", ""),
        ("/login", "Basic YTpi"),
    ] {
        let expected = judged_by(&replica.judge, path, authorization, NOW);
        assert_eq!(
            judged(&known, path, authorization, NOW),
            expected,
            "{path} {authorization}"
        );
    }
    assert_eq!(judged(&known, "/", &token, NOW), "token");
    let before = Arc::clone(known.in_force().unwrap());
    let taken = follow(&mut known, &replica, NOW);
    assert_eq!(
        (taken.exchanged, taken.changes, taken.complete),
        (false, 0, true)
    );
    assert!(Arc::ptr_eq(&before, known.in_force().unwrap()));
}

#[test]
fn revocations_are_sent_and_stay_in_force() {
    let replica = Replica::usual();
    let (ada, bob, eve) = (replica.token("7"), replica.token("8"), replica.token("9"));
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    for token in [&ada, &bob, &eve] {
        assert_eq!(judged(&known, "/", token, NOW), "token");
    }
    let revoked = &replica.judge.revoked;
    let id = |token: &str| {
        let Credential::Bearer(compact) = Credential::parse([token.as_bytes()]) else {
            panic!("a token");
        };
        let opened = replica.judge.verifier.open(compact, NOW, revoked);
        opened.unwrap().token
    };
    revoked.end(&id(&ada), later(3600));
    revoked.end_before("8", Generation(5), later(3600));
    revoked.set_inactive(["9".into()].into());
    let taken = follow(&mut known, &replica, NOW);
    assert_eq!((taken.changes, taken.exchanged), (3, false));
    for token in [&ada, &bob, &eve] {
        assert_eq!(judged(&known, "/", token, NOW), "token-ended");
    }
    revoked.set_inactive(HashSet::new());
    assert_eq!(follow(&mut known, &replica, NOW).changes, 1);
    assert_eq!(judged(&known, "/", &eve, NOW), "token");
    // A new follower receives the same, and removed revocations are not sent.
    let mut new = follower();
    follow(&mut new, &replica, NOW);
    for (token, expected) in [
        (&ada, "token-ended"),
        (&bob, "token-ended"),
        (&eve, "token"),
    ] {
        assert_eq!(judged(&new, "/", token, NOW), expected);
    }
    revoked.forget(later(3600));
    let mut newest = follower();
    assert_eq!(follow(&mut newest, &replica, NOW).changes, 1);
    assert_eq!(newest.revoked().len(), 0);
}

#[test]
fn tokens_are_refused_while_the_feed_is_incomplete_or_stale() {
    let replica = Replica::usual();
    let token = replica.token("7");
    for number in 0..MOST_CHANGES + 1 {
        replica.judge.revoked.end(&format!("t{number}"), later(60));
    }
    let mut known = follower();
    let question = known.question();
    let first = known.take(&replica.answer(&question), NOW).unwrap();
    assert!(first.more && !first.complete && first.exchanged);
    assert_eq!(judged(&known, "/", &token, NOW), "stale");
    assert_ne!(judged(&known, "/open", "", NOW), "stale");
    assert!(follow(&mut known, &replica, NOW).complete);
    assert_eq!(judged(&known, "/", &token, NOW), "token");
    // The replica cannot read its tables any more.
    for (after, expected) in [(10, "token"), (30, "token"), (31, "stale")] {
        follow(&mut known, &replica, later(after));
        assert_eq!(
            judged(&known, "/", &token, later(after)),
            expected,
            "{after}"
        );
    }
    replica.judge.revoked.have_been_read(later(40));
    follow(&mut known, &replica, later(40));
    assert_eq!(judged(&known, "/", &token, later(40)), "token");
    // The clock of the follower is set back by a day.
    replica
        .judge
        .revoked
        .have_been_read(UnixTime(NOW.0 - 86400));
    follow(&mut known, &replica, UnixTime(NOW.0 - 86400));
    assert_eq!(known.revoked().read_at(), UnixTime(NOW.0 - 86400));

    // A replica that has never read its tables.
    let fresh = Replica::usual();
    fresh.judge.revoked.have_been_read(UnixTime(0));
    let mut known = follower();
    assert!(!follow(&mut known, &fresh, NOW).complete);
    assert_eq!(judged(&known, "/", &fresh.token("7"), NOW), "stale");
}

#[test]
fn each_replica_sends_everything_once() {
    let replicas = [Replica::usual(), Replica::usual(), Replica::usual()];
    for replica in &replicas {
        for number in 0..2 * MOST_CHANGES + 7 {
            replica.judge.revoked.end(&format!("t{number}"), later(60));
        }
    }
    let mut known = follower();
    // A gateway that asks them in turn, for every page.
    let mut told = 0;
    for replica in replicas.iter().cycle().take(9) {
        let question = known.question();
        told += known.take(&replica.answer(&question), NOW).unwrap().changes;
    }
    assert_eq!(told, 3 * (2 * MOST_CHANGES + 7));
    assert_eq!(known.revoked().len(), 2 * MOST_CHANGES + 7);
    replicas[1].judge.revoked.end("new", later(60));
    for (replica, expected) in replicas.iter().zip([0, 1, 0]) {
        assert_eq!(follow(&mut known, replica, NOW).changes, expected);
    }
    // A restarted replica, and a follower that starts over.
    let mut other = follower();
    follow(&mut other, &replicas[0], NOW);
    let restarted = Replica::usual();
    restarted.judge.revoked.end("t", later(60));
    assert_eq!(follow(&mut other, &restarted, NOW).changes, 1);
    other.start_over();
    assert_eq!(follow(&mut other, &restarted, NOW).changes, 1);
}

#[test]
fn a_lagging_replica_undoes_nothing() {
    let (leads, lags) = (Replica::usual(), Replica::usual());
    leads.judge.revoked.have_been_read(later(60));
    leads.judge.revoked.set_inactive(["7".into()].into());
    lags.judge.revoked.set_inactive(["8".into()].into());
    let mut known = follower();
    follow(&mut known, &lags, later(60));
    assert!(known.revoked().inactive().contains("8"));
    follow(&mut known, &leads, later(60));
    let seven: HashSet<Box<str>> = ["7".into()].into();
    assert_eq!(*known.revoked().inactive(), seven);
    lags.judge.revoked.set_inactive(HashSet::new());
    follow(&mut known, &lags, later(60));
    known.start_over();
    follow(&mut known, &lags, later(60));
    assert_eq!(*known.revoked().inactive(), seven);
    assert_eq!(known.revoked().read_at(), later(60));
}

#[test]
fn the_newer_of_two_alternating_contents_stays() {
    let old = Replica::usual();
    let new = Replica::new(vec![ec("two", UnixTime(0))], &[("/*", "nobody")]);
    new.judge.revoked.have_been_read(NOW);
    let mut known = follower();
    assert!(follow(&mut known, &old, NOW).exchanged);
    assert!(follow(&mut known, &new, NOW).exchanged);
    let digest = known.in_force().unwrap().digest.clone();
    for after in 0..20 {
        assert!(!follow(&mut known, &old, later(after)).exchanged);
        assert!(!follow(&mut known, &new, later(after)).exchanged);
        assert_eq!(known.in_force().unwrap().digest, digest);
    }
    // After a rollback, no replica sends the newer content any more.
    for (after, exchanged) in [(20, false), (28, false), (29, true), (30, false)] {
        assert_eq!(
            follow(&mut known, &old, later(after)).exchanged,
            exchanged,
            "{after}"
        );
    }
    assert_eq!(judged(&known, "/open", "", NOW), "anonymous");
}

#[test]
fn new_rules_keep_unchanged_keys_and_revocations() {
    let mut replica = Replica::usual();
    let token = replica.token("7");
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    assert_eq!(judged(&known, "/", &token, NOW), "token");
    let before = Arc::clone(known.in_force().unwrap());
    let open = Rule::new("/also", &[], &[], Demand::Public).unwrap();
    let mut rules = replica.judge.policy.rules().to_vec();
    rules.push(open);
    replica.judge.policy = Policy::new(rules).unwrap();
    assert!(follow(&mut known, &replica, NOW).exchanged);
    let after = known.in_force().unwrap();
    assert!(Arc::ptr_eq(
        before.judge.verifier.keys(),
        after.judge.verifier.keys()
    ));
    assert!(Arc::ptr_eq(&before.judge.revoked, &after.judge.revoked));
    assert_eq!(judged(&known, "/also", "", NOW), "anonymous");
}

#[test]
fn keys_are_sent_before_they_sign_until_their_tokens_expire() {
    let keys = vec![ec("one", UnixTime(0)), ec("two", later(100))];
    let mut replica = Replica::new(keys, &[("/*", "signed-in")]);
    replica.judge.revoked.have_been_read(later(4000));
    let mut known = follower();
    follow(&mut known, &replica, later(4000));
    let keys = known.in_force().unwrap().judge.verifier.keys();
    for now in [
        NOW,
        later(99),
        later(100),
        later(3759),
        later(3760),
        later(9000),
    ] {
        for own in replica.judge.verifier.keys().keys() {
            let theirs = keys.keys().iter().find(|key| key.id() == own.id()).unwrap();
            let expected = replica.judge.verifier.keys().state(own, now);
            assert_eq!(keys.state(theirs, now), expected, "{:?} {now:?}", own.id());
        }
    }
    replica.judge.verifier = Verifier::of(
        &Keyring::new(vec![ec("three", UnixTime(0))], terms().lasts()).unwrap(),
        terms(),
    );
    assert!(follow(&mut known, &replica, NOW).exchanged);
    assert_eq!(
        known.in_force().unwrap().judge.verifier.keys().keys().len(),
        1
    );
}

#[test]
fn secrets_and_private_keys_are_never_sent() {
    let both = Replica::new(
        vec![secret().only_verifying(), ec("one", UnixTime(0))],
        &[("/*", "signed-in")],
    );
    both.judge.revoked.have_been_read(NOW);
    let mut known = follower();
    let question = known.question();
    let answer = both.answer(&question);
    let text = String::from_utf8(answer.clone()).unwrap();
    assert!(!text.contains("\"d\"") && !text.contains("\"k\""), "{text}");
    assert!(!text.contains(str::from_utf8(SECRET).unwrap()));
    known.take(&answer, NOW).unwrap();
    let name = secret().id().as_str().to_owned();
    assert_eq!(known.in_force().unwrap().missing_secrets, [name]);

    let only = Replica::new(vec![secret()], &[("/*", "signed-in")]);
    only.judge.revoked.have_been_read(NOW);
    let token = only.token("7");
    let mut known = follower();
    let question = known.question();
    let fault = known.take(&only.answer(&question), NOW).unwrap_err();
    assert_eq!(fault, FeedFault::Content(ContentFault::OnlySecrets));
    assert!(known.in_force().is_none());
    let mut known = follower_with(vec![secret()]);
    follow(&mut known, &only, NOW);
    assert_eq!(judged(&known, "/", &token, NOW), "token");
}

#[test]
fn other_issuers_are_sent_with_their_keys() {
    let theirs = ec("theirs", UnixTime(0));
    let issuer = Issuer::new(IssuerTerms {
        issuer: "https://id.example.com/".into(),
        audience: "api".into(),
        prefix: "corp/".into(),
        username: "sub".into(),
        roles: Some("roles".into()),
        accept_roles: Roles::parse_list("editor").unwrap(),
        grant: Roles::parse_list("member").unwrap(),
        algorithms: vec![Algorithm::Es256],
    });
    let mut replica = Replica::usual();
    replica.judge.verifier = replica.judge.verifier.clone().believing(Arc::new([issuer]));
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    let issuers = known.in_force().unwrap().judge.verifier.issuers();
    assert_eq!(
        issuers[0].terms(),
        replica.judge.verifier.issuers()[0].terms()
    );
    assert!(issuers[0].key_names().is_empty());
    let document = json!({"keys": [theirs.public()]}).to_string();
    replica.judge.verifier.issuers()[0]
        .take(document.as_bytes())
        .unwrap();
    assert!(follow(&mut known, &replica, NOW).exchanged);
    let issuers = known.in_force().unwrap().judge.verifier.issuers();
    assert_eq!(issuers[0].key_names(), ["theirs"]);
}

#[test]
fn locally_configured_parts_are_not_replaced() {
    let replica = Replica::usual();
    let rules = r#"{"rules": [{"path": "/*", "allow": "public"}]}"#;
    let mut known = Known::new(Options {
        stale_after: Duration::from_secs(30),
        secrets: Vec::new(),
        instead: serde_json::from_str(rules).unwrap(),
    });
    follow(&mut known, &replica, NOW);
    assert_eq!(judged(&known, "/anything", "", NOW), "anonymous");
    assert!(serde_json::from_str::<Instead>(r#"{"rule": []}"#).is_err());
    let alone = Known::without_feed(replica.content(), Vec::new()).unwrap();
    assert_eq!(
        judged_by(&alone.judge, "/", &replica.token("7"), NOW),
        "token"
    );
}
