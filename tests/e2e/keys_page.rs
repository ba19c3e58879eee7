//! The page for keys of machines, through real gateways: part of the test of each gateway in `sign_in`.

use crate::{
    front::BOB,
    harness::{Reply, Settings, send},
    sign_in::{Browser, Kind, POSTS, RULES, Setup, between, location},
};

/// The rules of `sign_in`, with keys.
pub fn with_keys(settings: &mut Settings) {
    let page = "[[route]]\npath = \"/my-keys\"\nallow = \"keys-page\"\n";
    settings.toml(format!("[keys]\nenabled = true\n\n{page}\n{RULES}"));
}

/// The value of a hidden field of a page.
fn field<'p>(page: &'p Reply, name: &str) -> &'p str {
    between(page.text(), &format!("name=\"{name}\" value=\""), "\"")
}

async fn post(browser: &mut Browser, form: &str) -> Reply {
    browser.send("POST", "/my-keys", &POSTS, form).await
}

/// `bob` has signed in.
pub async fn a_user_makes_uses_and_ends_a_key(setup: &Setup, browser: &mut Browser, kind: Kind) {
    let mut nobody = setup.browser();
    let reply = nobody.open("/my-keys").await;
    assert_eq!(location(&reply), "/sign-in?return=/my-keys", "{kind:?}");
    let who = browser.open("/signed-in").await;
    assert!(who.text().contains("href=\"&#x2f;my-keys\""), "{who:?}");

    let page = browser.open("/my-keys").await;
    assert_eq!(page.status, 200, "{kind:?} {page:?}");
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(page.text().contains("You have no key that can be used."));
    let forms = format!(
        "form={}&once={}",
        field(&page, "form"),
        field(&page, "once")
    );
    let wrong = post(browser, &format!("{forms}&name=a+b")).await;
    assert_eq!(wrong.status, 400, "{kind:?} {wrong:?}");
    assert!(
        wrong
            .text()
            .contains("aria-describedby=\"hint-name error-name\"")
    );

    // Another site has neither the form nor the right header.
    let wish = format!("{forms}&name=ci&roles=editor&paths=%2Fdeep%2F*&days=7");
    let foreign = [POSTS[0], ("sec-fetch-site", "cross-site"), POSTS[2]];
    let reply = browser.send("POST", "/my-keys", &foreign, &wish).await;
    assert_eq!(reply.status, 403, "{kind:?} {reply:?}");
    let reply = post(browser, "form=x&name=ci").await;
    assert_eq!(reply.status, 403, "{kind:?} {reply:?}");

    let made = post(browser, &wish).await;
    assert_eq!(made.status, 200, "{kind:?} {made:?}");
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let key = format!("dwk_{}", between(made.text(), ">dwk_", "<"));
    assert_eq!(key.len(), 93);
    // A reload of the answer, or a second press of the button.
    let again = post(browser, &wish).await;
    assert_eq!(again.status, 409, "{kind:?} {again:?}");
    assert!(again.text().contains("has made its key already"));
    let page = browser.open("/my-keys").await;
    assert_eq!(page.text().matches("<h3>ci</h3>").count(), 1, "{page:?}");
    assert!(
        page.text().contains("<dd>&#x2f;deep&#x2f;*</dd>"),
        "{page:?}"
    );
    for reply in [&again, &page] {
        assert!(!reply.text().contains(&key[21..]), "{kind:?}");
    }

    // It works at once, within its limits, and manages no keys.
    let bearer = format!("Bearer {key}");
    let ask = async |method: &str, path: &str| {
        let headers = [("authorization", &*bearer), POSTS[1], POSTS[2]];
        let body = if method == "POST" { &*wish } else { "" };
        send(
            setup.edge.address(),
            method,
            path,
            &headers,
            body.to_owned(),
        )
        .await
    };
    let used = ask("GET", "/deep/x").await;
    assert_eq!(used.status, 200, "{kind:?} {used:?}");
    assert!(
        used.text().contains("[\"x-auth-user\",\"bob\"]"),
        "{used:?}"
    );
    assert!(!used.text().contains(&key), "{kind:?} {used:?}");
    assert_eq!(ask("GET", "/other").await.status, 403, "{kind:?}");
    for method in ["GET", "POST"] {
        let refused = ask(method, "/my-keys").await;
        assert_eq!(refused.status, 403, "{kind:?} {refused:?}");
        assert!(!refused.text().contains("ci"), "{refused:?}");
    }

    let end = format!("form={}&end={}", field(&page, "form"), &key[4..20]);
    let ended = post(browser, &end).await;
    assert_eq!(location(&ended), "/my-keys", "{kind:?}");
    assert_eq!(ask("GET", "/deep/x").await.status, 401, "{kind:?}");
    let page = browser.open("/my-keys").await;
    assert!(page.text().contains("Keys that have ended or expired"));
    // The form makes no second key after its key has ended.
    assert_eq!(post(browser, &wish).await.status, 409, "{kind:?}");

    let logs = setup.doorward.output();
    assert!(
        !logs.contains(&key[21..]) && !logs.contains(BOB.1),
        "{logs}"
    );
    for reason in ["key-add", "key-end", "key-list", "key-repeated"] {
        assert!(
            logs.contains(&format!("\"reason\":\"{reason}\"")),
            "{reason}\n{logs}"
        );
    }
}
