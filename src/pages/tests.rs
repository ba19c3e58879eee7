use std::io;

use super::*;
use crate::domain::{
    decision::Refusal, own_keys::Typed, return_target::ReturnTarget, sign_in::Places,
};

fn pages() -> Pages {
    let none = |_: &Path| Err(io::ErrorKind::NotFound.into());
    Pages::new("Example".into(), None, None, none).unwrap()
}

fn page(target: &str) -> Page {
    Page {
        target: ReturnTarget::parse(target.as_bytes()).unwrap(),
        form: None,
        transport: Transport::Https,
        places: Places {
            sign_in: "/sign-in".into(),
            sign_out: "/sign-out".into(),
            signed_in: "/signed-in".into(),
            keys: None,
        },
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let found = answer.headers.iter().find(|(own, _)| *own == name);
    &found.unwrap().1
}

fn key(name: &str, state: &'static str) -> KeyShown {
    KeyShown {
        id: "0123456789abcdef".into(),
        name: name.into(),
        roles: None,
        paths: Vec::new(),
        state,
        created: 1_796_000_000,
        expires: Some(1_796_086_399),
        used: None,
    }
}

fn keys(typed: &Typed) -> KeysShown<'_> {
    KeysShown {
        who: "ada",
        roles: vec!["editor"],
        keys: Some(vec![key("ci", "usable"), key("old", "ended")]),
        left_out: 0,
        longest: Duration::from_secs(90 * 24 * 3600),
        typed,
        refused: None,
    }
}

#[test]
fn no_page_runs_a_script_or_is_kept_or_framed() {
    let (pages, page) = (pages(), page("/a"));
    for answer in [
        pages.keys(&page, &keys(&Typed::default())).unwrap(),
        (pages.new_key(&page, "ada", &key("ci", "usable"), "dwk_x")).unwrap(),
        pages.form(&page, None).unwrap(),
        pages.signed_in(&page, "ada").unwrap(),
        pages.signed_out(&page).unwrap(),
        pages.loops(&page, LoopCause::NoCookies).unwrap(),
    ] {
        let policy = header(&answer, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("script-src"));
        assert_eq!(header(&answer, "cache-control"), "no-store");
        assert_eq!(header(&answer, "referrer-policy"), "same-origin");
        assert!(!answer.body.contains("<script") && !answer.body.contains(" style="));
        assert!(answer.body.contains("<html lang=\"en\">"));
    }
}

#[test]
fn everything_that_comes_from_outside_is_escaped() {
    let page = page("/a?b=<script>&c=\"d");
    let form = pages().form(&page, None).unwrap();
    assert!(form.body.contains("&#x2f;a?b=&lt;script&gt;&amp;c=&quot;d"));
    let own = pages().signed_in(&page, "<b>\"ada").unwrap();
    assert!(own.body.contains("&lt;b&gt;&quot;ada"));
    let typed = Typed {
        paths: "\"><b>".into(),
        ..Typed::default()
    };
    let keys = pages().keys(&page, &keys(&typed)).unwrap();
    assert!(keys.body.contains("value=\"&quot;&gt;&lt;b&gt;\""));
}

#[test]
fn the_page_of_keys_shows_each_key_and_ends_only_those_that_can_be_used() {
    let typed = Typed::default();
    let html = pages().keys(&page("/my-keys"), &keys(&typed)).unwrap().body;
    for shown in [
        "<h3>ci</h3>",
        "all of yours",
        "<dd>2026-11-30</dd>",
        "<dd>2026-12-01 00:53 UTC</dd>",
        "<dd>never</dd>",
        "<summary>Keys that have ended or expired</summary>",
        "You have: editor.",
        "max=\"90\"",
        "aria-label=\"End ci, 0123456789abcdef\"",
        "action=\"&#x2f;my-keys\"",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert_eq!(html.matches("name=\"end\"").count(), 1);
    assert!(html.contains("autocomplete=\"off\"") && !html.contains("aria-invalid"));
    let unread = KeysShown {
        keys: None,
        ..keys(&typed)
    };
    let html = pages().keys(&page("/my-keys"), &unread).unwrap().body;
    assert!(html.contains("cannot be read") && !html.contains("<form"));
}

#[test]
fn a_refused_key_keeps_what_was_typed_and_blames_one_field() {
    let once = FormKey::draw().unwrap();
    let typed = Typed {
        once: Some(once.clone()),
        name: "a b".into(),
        roles: "x".into(),
        no_roles: true,
        paths: "y".into(),
        days: "z".into(),
    };
    let body = |name| Denial::Body(crate::domain::body::BodyFault::Impossible(name));
    for (denial, status, field) in [
        (body("name"), 400, Some("name")),
        (body("roles"), 400, Some("roles")),
        (body("paths"), 400, Some("paths")),
        (body("days"), 400, Some("days")),
        (Denial::TooManyKeys("7".into()), 409, None),
        (Denial::ForeignForm, 403, None),
        (Denial::InvalidCredentials(Refusal::UnknownUser), 422, None),
    ] {
        let shown = KeysShown {
            refused: Some(&denial),
            ..keys(&typed)
        };
        let answer = pages().keys(&page("/my-keys"), &shown).unwrap();
        assert_eq!(answer.status, status, "{denial:?}");
        for value in [
            "value=\"a b\"",
            "value=\"x\"",
            "value=\"y\"",
            "value=\"z\"",
            " checked",
        ] {
            assert!(answer.body.contains(value), "{value}");
        }
        // The same form again: the first answer may have been lost.
        assert!(answer.body.contains(once.expose()));
        let invalid = answer.body.matches("aria-invalid").count();
        assert_eq!(invalid, usize::from(field.is_some()), "{denial:?}");
        match field {
            Some(field) => assert!(answer.body.contains(&format!("id=\"error-{field}\""))),
            None => assert!(answer.body.contains("role=\"alert\"")),
        }
    }
    let again = Denial::KeyRepeated(
        crate::domain::machine_key::MachineKeyId::parse("0123456789abcdef").unwrap(),
    );
    let shown = KeysShown {
        refused: Some(&again),
        ..keys(&typed)
    };
    let answer = pages().keys(&page("/my-keys"), &shown).unwrap();
    assert!(answer.status == 409 && !answer.body.contains(once.expose()));
}

#[test]
fn a_new_key_stands_in_its_page_once() {
    let shown = key("ci", "usable");
    let answer = pages().new_key(&page("/my-keys"), "ada", &shown, "dwk_secret");
    let answer = answer.unwrap();
    assert_eq!(answer.body.matches("dwk_secret").count(), 1);
    assert!(!format!("{answer:?}").contains("dwk_secret"));
    assert!(!answer.headers.iter().any(|(name, _)| *name == "set-cookie"));
}

#[test]
fn signed_in_leads_to_the_keys_if_there_are_any() {
    let mut page = page("/");
    let leads = |page: &Page| {
        let html = pages().signed_in(page, "ada").unwrap().body;
        html.contains("href=\"&#x2f;my-keys\"")
    };
    assert!(!leads(&page));
    page.places.keys = Some("/my-keys".into());
    assert!(leads(&page));
}

#[test]
fn a_refusal_is_tied_to_its_fields_and_has_its_status() {
    let pages = pages();
    for (denial, status) in [
        (Denial::InvalidCredentials(Refusal::UnknownUser), 422),
        (Denial::Throttled(Duration::from_millis(1500)), 429),
        (Denial::ForeignForm, 403),
        (Denial::CrossSite, 403),
    ] {
        let answer = pages.form(&page("/a"), Some(&denial)).unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.body.matches("aria-describedby=\"error\"").count(), 2);
        assert!(
            !answer
                .headers
                .iter()
                .any(|(name, _)| *name == "www-authenticate")
        );
    }
    let [unknown, wrong] = [Refusal::UnknownUser, Refusal::WrongPassword("7".into())];
    let key = FormKey::draw().unwrap();
    let read = |refusal| {
        let page = Page {
            form: Some(key.clone()),
            ..page("/a")
        };
        let denial = Denial::InvalidCredentials(refusal);
        pages.form(&page, Some(&denial)).unwrap()
    };
    assert!(read(unknown) == read(wrong));
}

#[test]
fn two_tabs_have_one_form() {
    let pages = pages();
    let first = pages.form(&page("/a"), None).unwrap();
    let cookie = header(&first, "set-cookie").to_owned();
    let key = cookie.split(['=', ';']).nth(1).unwrap();
    let again = Page {
        form: FormKey::parse(key.as_bytes()),
        ..page("/b")
    };
    let second = pages.form(&again, None).unwrap();
    assert_eq!(header(&second, "set-cookie"), cookie);
    assert!(second.body.contains(key));
}

#[test]
fn a_broken_template_is_found_before_a_browser_sees_it() {
    let with = |file: &'static str, text: &'static str| {
        let found = Pages::new(
            "Example".into(),
            None,
            Some(Path::new("/t")),
            move |path| match path.ends_with(file) {
                true => Ok(text.to_owned()),
                false => Err(io::ErrorKind::NotFound.into()),
            },
        );
        found.map(drop).map_err(|fault| fault.to_string())
    };
    assert!(with("sign-in.html", "<p>{{ name }} {{ form_key }}").is_ok());
    // A team's base is part of every page.
    let base = "{{ name }}{{ logo }}{{ sign_in }}{{ sign_out }}{{ signed_in }}{{ my_keys }}{{ action }}{{ target }}{{ who }}{{ error }}{{ form_key }}{% block main %}{% endblock %}";
    assert_eq!(with("base.html", base), Ok(()));
    for (file, text) in [
        ("sign-in.html", "{{ name"),
        ("sign-in.html", "{{ nmae }}"),
        ("signed-in.html", "{% extends \"other.html\" %}"),
        ("loop.html", "{% if error %}"),
        ("keys.html", "{{ secret }}"),
        ("new-key.html", "{{ keys }}"),
    ] {
        assert!(with(file, text).unwrap_err().contains(file), "{text}");
    }
    assert!(with("other.html", "").unwrap_err().contains("none of"));
}
