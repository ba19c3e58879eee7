use std::io;

use super::*;
use crate::domain::{decision::Refusal, return_target::ReturnTarget, sign_in::Places};

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
        },
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let found = answer.headers.iter().find(|(own, _)| *own == name);
    &found.unwrap().1
}

#[test]
fn no_page_runs_a_script_or_is_kept_or_framed() {
    let (pages, page) = (pages(), page("/a"));
    for answer in [
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
    for (file, text) in [
        ("sign-in.html", "{{ name"),
        ("sign-in.html", "{{ nmae }}"),
        ("signed-in.html", "{% extends \"other.html\" %}"),
        ("loop.html", "{% if error %}"),
    ] {
        assert!(with(file, text).unwrap_err().contains(file), "{text}");
    }
    assert!(with("other.html", "").unwrap_err().contains("none of"));
}
