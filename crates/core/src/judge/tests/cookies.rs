//! Cookies as credentials, and the pages.

use super::*;
use crate::{
    cookie::{CookieEdit, CookieFault},
    header_edits::{Gateway, HeaderEdits},
    headers::Headers,
    identity_headers::{IdentityHeaders, KeyHeader},
    own_keys::KeyWish,
    request::RequestLine,
    sign_in::{BrowserSession, FormKey, LoopCause, Places, SignIn, Visit},
};

const SESSION: Duration = Duration::from_secs(12 * 3600);

pub(super) fn rules() -> Judge {
    let mut rules = example();
    let own = |rule: &Rule| rule.clone();
    let mut all: Vec<_> = rules.policy.rules().iter().map(own).collect();
    for (path, allow) in [
        ("/sign-in", "sign-in"),
        ("/sign-out", "sign-out"),
        ("/who", "signed-in-page"),
        ("/logout", "logout"),
        ("/password", "password"),
    ] {
        all.push(Rule::new(path, &[], &[], Demand::parse(allow).unwrap()).unwrap());
    }
    rules.policy = Policy::new(all).unwrap();
    rules.sign_in = Some(SignIn {
        session: SESSION,
        localhost: false,
        places: Places::of(&rules.policy),
    });
    rules
}

fn cookie_since(roles: &str, since: UnixTime, now: UnixTime) -> String {
    let identity = Identity {
        subject: "7".into(),
        username: Username::parse("ada").unwrap(),
        roles: Roles::parse_list(roles).unwrap(),
    };
    let session = BrowserSession::start(since, SESSION).unwrap();
    let signer = Signer::new(Arc::new(keys()), terms());
    let token = signer.issue_cookie(&identity, Generation(0), &session, now);
    format!("__Host-doorward={}", token.unwrap().expose())
}

pub(super) fn cookie(roles: &str) -> String {
    cookie_since(roles, NOW, NOW)
}

/// The next step for a request to `app.example`.
pub(super) fn step(
    rules: &Judge,
    method: &str,
    target: &str,
    shown: &[(&str, &str)],
    body: &str,
) -> Step {
    step_at(rules, method, target, shown, body, NOW)
}

fn step_at(
    rules: &Judge,
    method: &str,
    target: &str,
    shown: &[(&str, &str)],
    body: &str,
    now: UnixTime,
) -> Step {
    let names = IdentityHeaders::default();
    let names = match rules.keys.is_on() {
        true => names.with_keys(Some(KeyHeader::parse("x-api-key").unwrap())),
        false => names,
    };
    let mut headers = Headers::default();
    for (name, value) in shown {
        headers.see(names, name.as_bytes(), value.as_bytes());
    }
    let line = RequestLine {
        method: method.as_bytes(),
        host: b"app.example",
        target: target.as_bytes(),
    };
    let request = headers
        .request(
            line,
            Tolerance::default(),
            body.as_bytes(),
            Answerable::Anything,
        )
        .unwrap();
    rules.judge(&request, now).step
}

pub(super) fn word(step: Step) -> String {
    match step {
        Step::Done(Decision::Deny(Denial::Shown(denial, answer))) => {
            let location = answer.headers.iter().find(|(name, _)| *name == "location");
            format!("{} -> {}", denial.reason(), location.unwrap().1)
        }
        Step::Done(Decision::Deny(denial)) => denial.reason().name().into(),
        Step::Done(Decision::Allow(admission)) => {
            let caller = match admission.caller {
                Caller::Anonymous => "anonymous",
                Caller::Known(principal) if principal.key().is_some() => "key",
                Caller::Known(_) => "known",
            };
            let cookies = match admission.cookies {
                CookieEdit::Keep => String::new(),
                CookieEdit::Remove => " without cookies".into(),
                CookieEdit::Replace(rest) => format!(" with {rest}"),
            };
            format!("{caller}{cookies}")
        }
        Step::Done(decision) => decision.reason().name().into(),
        Step::Act(Action::SignIn(attempt, page)) => {
            format!(
                "sign in {} to {:?}",
                attempt.login.username.as_str(),
                page.target
            )
        }
        Step::Act(Action::Visit(visit, page)) => {
            let visit = match visit {
                Visit::Form(None) => "form".into(),
                Visit::Form(Some(cause)) => format!("loop {cause:?}"),
                Visit::Refused(denial) => format!("refused {}", denial.reason()),
                Visit::Enter(..) => "enter".into(),
                Visit::SignedIn(_) => "signed in".into(),
                Visit::SignOut(presented) => format!("sign out {}", presented.is_some()),
                Visit::Keys(_, visit) => match visit.wish {
                    Ok(KeyWish::List) => "list keys".into(),
                    Ok(KeyWish::Add(new)) => format!("make key {}", new.name.as_str()),
                    Ok(KeyWish::End(id)) => format!("end key {id}"),
                    Err(denial) => format!("keys refused {}", denial.reason()),
                },
            };
            format!("{visit} to {:?}", page.target)
        }
        Step::Act(_) => "act".into(),
        Step::Defer => "defer".into(),
    }
}

pub(super) fn judged(rules: &Judge, method: &str, target: &str, shown: &[(&str, &str)]) -> String {
    word(step(rules, method, target, shown, ""))
}

/// The core table, with a cookie: none, a good one, one with another role, and bad ones.
#[test]
fn a_cookie_is_judged_as_a_token() {
    let rules = rules();
    let (plain, admin) = (cookie(""), cookie("admin"));
    let bearer = token("").replace("Bearer ", "__Host-doorward=");
    let cookies = [
        plain.clone(),
        format!("a=1; {admin}; b=2"),
        format!("{plain}x"),
        bearer,
        format!("{plain}; {admin}"),
    ];
    let public = [
        "known without cookies",
        "known with a=1; b=2",
        "anonymous without cookies",
        "anonymous without cookies",
        "anonymous without cookies",
    ];
    let bad = [
        "token-signature",
        "token-not-for-cookie",
        "malformed-cookie",
    ];
    for (method, path, expected) in [
        ("GET", "/public/x", public),
        ("GET", "/me", [public[0], public[1], bad[0], bad[1], bad[2]]),
        (
            "GET",
            "/admin/x",
            ["missing-role", public[1], bad[0], bad[1], bad[2]],
        ),
        ("GET", "/closed", ["no-rule"; 5]),
        ("GET", "/elsewhere", ["no-rule"; 5]),
        ("POST", "/login", ["missing-credentials"; 5]),
        // Only pages and rules take a cookie.
        ("POST", "/logout", ["missing-token"; 5]),
        ("POST", "/password", ["missing-token"; 5]),
    ] {
        for (cookie, expected) in cookies.iter().zip(expected) {
            let found = judged(&rules, method, path, &[("cookie", cookie)]);
            assert_eq!(found, expected, "{method} {path}");
        }
    }
}

#[test]
fn without_sign_in_a_cookie_is_nothing() {
    let rules = example();
    let own = cookie("admin");
    let shown = [("cookie", &*own), ("sec-fetch-mode", "navigate")];
    assert_eq!(judged(&rules, "GET", "/me", &shown), "missing-token");
    assert_eq!(judged(&rules, "GET", "/public/x", &shown), "anonymous");
}

/// Two credentials: `Authorization` counts alone, and the cookie is taken off all the same.
#[test]
fn an_authorization_header_counts_alone() {
    let rules = rules();
    let (own, plain) = (cookie("admin"), token(""));
    for (authorization, path, expected) in [
        (&*plain, "/me", "known without cookies"),
        (&plain, "/admin/x", "missing-role"),
        ("Basic YWRhOnNlY3JldA==", "/me", "missing-token"),
        ("Digest x", "/me", "missing-token"),
        ("Bearer", "/me", "malformed-authorization"),
        ("Bearer a, Bearer b", "/public/x", "malformed-authorization"),
        (
            "Basic YWRhOnNlY3JldA==",
            "/public/x",
            "anonymous without cookies",
        ),
    ] {
        let shown = [
            ("cookie", &*own),
            ("authorization", authorization),
            ("sec-fetch-mode", "navigate"),
        ];
        assert_eq!(
            judged(&rules, "GET", path, &shown),
            expected,
            "{authorization}"
        );
    }
}

#[test]
fn no_foreign_site_acts_with_the_cookie() {
    let rules = rules();
    let own = cookie("admin");
    let origin = "https://app.example";
    for (method, extra, expected) in [
        ("GET", &[][..], true),
        ("GET", &[("sec-fetch-site", "cross-site")], true),
        ("POST", &[], false),
        ("DELETE", &[("sec-fetch-site", "cross-site")], false),
        (
            "POST",
            &[("sec-fetch-site", "same-site"), ("origin", origin)],
            false,
        ),
        ("POST", &[("sec-fetch-site", "same-origin")], true),
        ("POST", &[("sec-fetch-site", "none")], true),
        ("POST", &[("origin", origin)], true),
        ("POST", &[("origin", "https://evil.example")], false),
        ("POST", &[("origin", "null")], false),
        ("GET", &[("upgrade", "websocket")], false),
        ("GET", &[("sec-websocket-version", "13")], false),
        (
            "GET",
            &[
                ("sec-websocket-key", "x"),
                ("origin", "https://evil.example"),
            ],
            false,
        ),
        ("GET", &[("upgrade", "websocket"), ("origin", origin)], true),
    ] {
        let shown = [&[("cookie", &*own)], extra].concat();
        let (me, public) = match expected {
            true => ("known without cookies", "known without cookies"),
            // Where everybody may pass, such a request passes as one of nobody.
            false => ("cross-site", "anonymous without cookies"),
        };
        assert_eq!(
            judged(&rules, method, "/me", &shown),
            me,
            "{method} {extra:?}"
        );
        assert_eq!(
            judged(&rules, method, "/public/x", &shown),
            public,
            "{method} {extra:?}"
        );
    }
}

#[test]
fn only_somebody_who_goes_to_a_page_is_sent_to_the_form() {
    let rules = rules();
    let redirected = "missing-token -> /sign-in?return=/me%3Fa%3Db";
    let bad = format!("{}x", cookie(""));
    for (method, shown, expected) in [
        ("GET", &[("sec-fetch-mode", "navigate")][..], redirected),
        ("GET", &[("accept", "text/html")], redirected),
        (
            "GET",
            &[("accept", "text/html"), ("sec-fetch-mode", "cors")],
            "missing-token",
        ),
        ("GET", &[("accept", "application/json")], "missing-token"),
        ("GET", &[], "missing-token"),
        ("POST", &[("sec-fetch-mode", "navigate")], "missing-token"),
        (
            "GET",
            &[("sec-fetch-mode", "navigate"), ("upgrade", "websocket")],
            "missing-token",
        ),
        (
            "GET",
            &[
                ("sec-fetch-mode", "navigate"),
                ("authorization", "Digest x"),
            ],
            "missing-token",
        ),
        (
            "GET",
            &[("sec-fetch-mode", "navigate"), ("cookie", &bad)],
            "token-signature -> /sign-in?return=/me%3Fa%3Db",
        ),
    ] {
        assert_eq!(
            judged(&rules, method, "/me?a=b", shown),
            expected,
            "{method} {shown:?}"
        );
    }
    let navigates = [("sec-fetch-mode", "navigate")];
    assert_eq!(judged(&rules, "GET", "/elsewhere", &navigates), "no-rule");
    assert_eq!(judged(&rules, "GET", "/public/x", &navigates), "anonymous");
    let plain = cookie("");
    let shown = [("sec-fetch-mode", "navigate"), ("cookie", &*plain)];
    assert_eq!(judged(&rules, "GET", "/admin/x", &shown), "missing-role");
}

#[test]
fn the_pages_are_asked_for() {
    let rules = rules();
    let own = cookie("");
    let own = [("cookie", &*own)];
    let posted = [&own[..], &[("sec-fetch-site", "same-origin")]].concat();
    for (method, target, shown, expected) in [
        ("GET", "/sign-in?return=/a%3Fb", &[][..], "form to \"/a\""),
        ("HEAD", "/sign-in", &[], "form to \"/\""),
        (
            "GET",
            "/sign-in?return=//evil.example",
            &[],
            "form to \"/\"",
        ),
        ("GET", "/sign-in?return=/sign-in", &[], "form to \"/\""),
        ("GET", "/sign-in?return=/a", &own, "enter to \"/a\""),
        ("GET", "/who", &own, "signed in to \"/\""),
        ("GET", "/who", &[], "missing-token -> /sign-in?return=/who"),
        ("GET", "/sign-out", &own, "endpoint-method"),
        ("POST", "/who", &posted, "endpoint-method"),
        ("POST", "/sign-out", &posted, "sign out true to \"/\""),
        ("POST", "/sign-out", &posted[1..], "sign out false to \"/\""),
        ("POST", "/sign-out", &own, "refused cross-site to \"/\""),
        (
            "GET",
            "/sign-in",
            &[("authorization", "")],
            "refused malformed-authorization to \"/\"",
        ),
        (
            "GET",
            "/sign-in?return=/a",
            &[("referer", "https://app.example/sign-in")],
            "loop NoCookies to \"/a\"",
        ),
    ] {
        assert_eq!(
            judged(&rules, method, target, shown),
            expected,
            "{method} {target}"
        );
    }
    let mut stale = super::cookies::rules();
    stale.revoked = Arc::new(Revocations::new(Some(Duration::from_secs(30))));
    assert_eq!(
        judged(&stale, "GET", "/sign-in", &own),
        "refused revocations-stale to \"/\""
    );
    assert_eq!(judged(&stale, "GET", "/me", &own), "revocations-stale");
}

#[test]
fn a_loop_says_why() {
    let rules = rules();
    let key = FormKey::draw().unwrap();
    let form = format!("__Host-doorward-form={}", key.expose());
    let bad = format!("{}x", cookie(""));
    let twice = format!("{bad}; {bad}");
    for (cookies, expected) in [
        ("a=1", LoopCause::NoCookies),
        (&form, LoopCause::OnlySmall),
        (&bad, LoopCause::Refused(TokenFault::Signature)),
        (&twice, LoopCause::Ambiguous(CookieFault::Several)),
    ] {
        let shown = [
            ("referer", "https://app.example/sign-in?return=/a"),
            ("cookie", cookies),
        ];
        let Step::Act(Action::Visit(Visit::Form(cause), _)) =
            step(&rules, "GET", "/sign-in", &shown, "")
        else {
            panic!("no form");
        };
        assert_eq!(cause, Some(expected));
    }
}

#[test]
fn a_form_counts_only_in_the_browser_that_got_it() {
    let rules = rules();
    let key = FormKey::draw().unwrap();
    let form = format!("__Host-doorward-form={}", key.expose());
    let other = FormKey::draw().unwrap();
    let fields = |key: &str| format!("username=ada&password=secret&form={key}");
    let same = ("sec-fetch-site", "same-origin");
    let cookie = ("cookie", &*form);
    for (shown, body, expected) in [
        (
            &[same, cookie][..],
            fields(key.expose()),
            "sign in ada to \"/a\"",
        ),
        (
            &[same, cookie],
            fields(other.expose()),
            "refused foreign-form to \"/a\"",
        ),
        (
            &[same],
            fields(key.expose()),
            "refused foreign-form to \"/a\"",
        ),
        (&[same], fields(""), "refused foreign-form to \"/a\""),
        (
            &[same, ("cookie", "__Host-doorward-form=")],
            fields(""),
            "refused foreign-form to \"/a\"",
        ),
        (
            &[same, cookie],
            "username=ada&password=secret".into(),
            "refused malformed-body to \"/a\"",
        ),
        (
            &[same, cookie],
            format!("form={}", key.expose()),
            "refused malformed-body to \"/a\"",
        ),
        (
            &[cookie],
            fields(key.expose()),
            "refused cross-site to \"/a\"",
        ),
        (
            &[("sec-fetch-site", "cross-site"), cookie],
            fields(key.expose()),
            "refused cross-site to \"/a\"",
        ),
        (
            &[("origin", "https://app.example"), cookie],
            fields(key.expose()),
            "sign in ada to \"/a\"",
        ),
    ] {
        let shown = [
            shown,
            &[("content-type", "application/x-www-form-urlencoded")],
        ]
        .concat();
        let found = word(step(&rules, "POST", "/sign-in?return=/a", &shown, &body));
        assert_eq!(found, expected, "{shown:?}");
    }
}

#[test]
fn a_cookie_is_renewed_from_half_of_its_life_until_its_session_ends() {
    let rules = rules();
    let hour = terms().lifetime.as_secs();
    let at = |seconds| UnixTime(NOW.0 + seconds);
    let renewal = |cookie: &str, now| {
        let shown = [("cookie", cookie)];
        match step_at(&rules, "GET", "/me", &shown, "", now) {
            Step::Done(Decision::Allow(admission)) => admission.renewal,
            other @ (Step::Done(_) | Step::Act(_) | Step::Defer) => panic!("{other:?}"),
        }
    };
    let first = cookie("");
    assert!(renewal(&first, at(hour / 2 - 1)).is_none());
    let due = renewal(&first, at(hour / 2)).unwrap();
    assert_eq!((due.session.since, due.session.lasts), (NOW, SESSION));
    let waits = format!("{first}; __Host-doorward-later=1");
    assert!(renewal(&waits, at(hour / 2)).is_none());
    // The next token continues the session, and a sign-out ends all of its tokens.
    let signer = Signer::new(Arc::new(keys()), terms());
    let now = at(hour / 2);
    let next = signer.issue_cookie(&due.identity, due.generation, &due.session, now);
    let next = format!("__Host-doorward={}", next.unwrap().expose());
    assert_eq!(renewal(&next, at(hour)).unwrap().session, due.session);
    rules.revoked.end(&due.session.id, at(SESSION.as_secs()));
    for cookie in [&first, &next] {
        let found = word(step_at(
            &rules,
            "GET",
            "/me",
            &[("cookie", cookie)],
            "",
            now,
        ));
        assert_eq!(found, "token-ended");
    }
    // The last token ends with the session.
    let late = at(SESSION.as_secs() - 60);
    let last = cookie_since("", NOW, late);
    assert!(renewal(&last, at(SESSION.as_secs() - 1)).is_none());
    let after = at(SESSION.as_secs() + terms().leeway.as_secs());
    let found = word(step_at(
        &rules,
        "GET",
        "/me",
        &[("cookie", &last)],
        "",
        after,
    ));
    assert_eq!(found, "token-expired");
    let session = BrowserSession::start(NOW, SESSION).unwrap();
    assert!(
        signer
            .issue_cookie(&due.identity, Generation(0), &session, after)
            .is_err()
    );
    // A session that the setting no longer allows.
    let mut short = super::cookies::rules();
    short.sign_in.as_mut().unwrap().session = Duration::from_secs(60);
    let found = word(step_at(
        &short,
        "GET",
        "/me",
        &[("cookie", &first)],
        "",
        at(120),
    ));
    assert_eq!(found, "token-expired");
}

#[test]
fn the_service_never_gets_the_cookie() {
    let rules = rules();
    let own = format!("a=1; {}; b=2", cookie(""));
    let authorization = token("");
    for (path, authorization) in [
        ("/me", None),
        ("/public/x", None),
        ("/me", Some(&*authorization)),
    ] {
        let mut shown = vec![("cookie", &*own)];
        shown.extend(authorization.map(|value| ("authorization", value)));
        let Step::Done(Decision::Allow(admission)) = step(&rules, "GET", path, &shown, "") else {
            panic!("{path}");
        };
        for gateway in [Gateway::ShowsAll, Gateway::ShowsSome, Gateway::Replaces] {
            let edits = HeaderEdits::of(&admission, IdentityHeaders::default(), gateway);
            let cookies: Vec<_> = edits.set().filter(|(name, _)| *name == "cookie").collect();
            assert_eq!(cookies, [("cookie", "a=1; b=2")]);
        }
    }
}
