//! The page where people manage their own keys.

use super::{
    cookies::{cookie, judged, step, word},
    *,
};
use crate::{
    cookie::{CookieName, Transport},
    form_key::FormKey,
    machine_keys::MachineKeys,
    sign_in::Places,
};

fn rules() -> Judge {
    let mut rules = cookies::rules();
    let mut all = rules.policy.rules().to_vec();
    let demand = Demand::parse("keys-page").unwrap();
    all.push(Rule::new("/own/keys", &[], &[], demand).unwrap());
    rules.policy = Policy::new(all).unwrap();
    rules.sign_in.as_mut().unwrap().places = Places::of(&rules.policy);
    rules.keys = KeySource::Here(Arc::new(MachineKeys::default()));
    rules
}

#[test]
fn only_a_cookie_opens_the_page() {
    let rules = rules();
    let own = cookie("");
    let own = ("cookie", &*own);
    let bad = format!("{}x", own.1);
    let twice = format!("{}; {}", own.1, own.1);
    let key = crate::machine_key::MachineKey::generate().unwrap();
    let (by_key, by_token) = (format!("Bearer {}", key.expose()), token("admin"));
    let redirected = |reason: &str| format!("{reason} -> /sign-in?return=/own/keys");
    for (shown, expected) in [
        (&[own][..], "list keys to \"/own/keys\"".into()),
        (&[], redirected("missing-token")),
        (&[("cookie", &*bad)], redirected("token-signature")),
        (&[("cookie", &*twice)], redirected("malformed-cookie")),
        // If another credential counts instead of the cookie, there is no redirect to the sign-in page.
        (
            &[own, ("authorization", &by_key)],
            "key-not-accepted".into(),
        ),
        (
            &[own, ("x-api-key", key.expose())],
            "key-not-accepted".into(),
        ),
        (&[("authorization", &by_key)], "key-not-accepted".into()),
        (&[own, ("authorization", &by_token)], "missing-token".into()),
        (
            &[own, ("authorization", "Basic YTpi")],
            "missing-token".into(),
        ),
        (
            &[own, ("authorization", "")],
            "malformed-authorization".into(),
        ),
    ] {
        let found = judged(&rules, "GET", "/own/keys?a=b", shown);
        assert_eq!(found, expected, "{shown:?}");
    }
    assert_eq!(
        judged(&rules, "DELETE", "/own/keys", &[own]),
        "endpoint-method"
    );
    let mut off = self::rules();
    off.keys = KeySource::Off;
    assert_eq!(judged(&off, "GET", "/own/keys", &[own]), "no-rule");
    let mut stale = self::rules();
    stale.revoked = Arc::new(Revocations::new(Some(Duration::from_secs(30))));
    let found = judged(&stale, "GET", "/own/keys", &[own]);
    assert_eq!(found, "refused revocations-stale to \"/own/keys\"");
}

#[test]
fn no_other_site_and_no_other_form_makes_or_ends_a_key() {
    let rules = rules();
    let (key, other) = (FormKey::draw().unwrap(), FormKey::draw().unwrap());
    let form = CookieName::Form(Transport::Https).as_str();
    let cookies = format!("{}; {form}={}", cookie(""), key.expose());
    let without_form = cookie("");
    let form = "application/x-www-form-urlencoded";
    let new = |key: &FormKey| format!("form={0}&once={0}&name=ci", key.expose());
    let end = format!("form={}&end=0123456789abcdef", key.expose());
    let same = ("sec-fetch-site", "same-origin");
    for (site, cookies, body, expected) in [
        (same, &cookies, new(&key), "make key ci"),
        (same, &cookies, end.clone(), "end key 0123456789abcdef"),
        (
            ("origin", "https://app.example"),
            &cookies,
            end.clone(),
            "end key 0123456789abcdef",
        ),
        (
            ("origin", "https://evil.example"),
            &cookies,
            end.clone(),
            "keys refused cross-site",
        ),
        (
            ("sec-fetch-site", "same-site"),
            &cookies,
            new(&key),
            "keys refused cross-site",
        ),
        (same, &cookies, new(&other), "keys refused foreign-form"),
        (
            same,
            &without_form,
            end.clone(),
            "keys refused foreign-form",
        ),
        (
            same,
            &cookies,
            "name=ci&name=ci".into(),
            "keys refused malformed-body",
        ),
        (same, &cookies, String::new(), "keys refused malformed-body"),
    ] {
        let shown = [site, ("cookie", &**cookies), ("content-type", form)];
        let found = word(step(&rules, "POST", "/own/keys", &shown, &body));
        assert_eq!(
            found,
            format!("{expected} to \"/own/keys\""),
            "{site:?} {body}"
        );
    }
}

#[test]
fn the_page_is_linked_if_a_rule_names_it() {
    let place = |rules: Judge| rules.sign_in.unwrap().places.keys;
    assert_eq!(place(rules()), Some("/own/keys".into()));
    assert_eq!(place(cookies::rules()), None);
}
