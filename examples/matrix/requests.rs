//! Sends the requests of a scenario, and compares what client and service saw with what the scenario demands.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use hyper::Uri;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    findings::Findings,
    harness::{ask_bytes, basic, tampered, try_send},
    scenario::{Request, Wanted},
    world::{ADA, BOB, Setup},
};

/// What the client got.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Runs all requests of a scenario in order.
pub async fn run(
    setup: &Setup<'_>,
    requests: &[Request],
    found: &mut Findings,
) -> anyhow::Result<()> {
    for request in requests {
        let once = [Vec::new()];
        let variants = if request.variants.is_empty() {
            &once[..]
        } else {
            &request.variants
        };
        for path in &request.paths {
            for variant in variants {
                found.extend(repeat(setup, request, path, variant).await?);
            }
        }
    }
    Ok(())
}

async fn repeat(
    setup: &Setup<'_>,
    request: &Request,
    path: &str,
    variant: &[String],
) -> anyhow::Result<Findings> {
    let start = Instant::now();
    loop {
        let found = one(setup, request, path, variant).await?;
        let is_over = request
            .within
            .is_none_or(|within| start.elapsed() >= within);
        if found.is_empty() || is_over {
            return Ok(found);
        }
        sleep(PAUSE).await;
    }
}

const PAUSE: Duration = Duration::from_millis(50);

async fn one(
    setup: &Setup<'_>,
    request: &Request,
    path: &str,
    variant: &[String],
) -> anyhow::Result<Findings> {
    let words = words(setup)?;
    let fill = |text: &String| {
        words.iter().fold(text.clone(), |text, (word, value)| {
            text.replace(word, value)
        })
    };
    let lines: Vec<_> = request.headers.iter().chain(variant).map(fill).collect();
    let mut headers: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let mut found = Findings::default();
    let asked = asked(request, path, variant);
    let shown = request.token.as_ref().or(request.who.as_ref());
    let shown = match shown.map(|name| setup.bearer(name)) {
        Some(Ok(bearer)) => Some(bearer),
        // An earlier request should have kept this token; its fault is reported, too.
        Some(Err(fault)) => {
            found.refused(format!("{asked}: {fault}"));
            return Ok(found);
        }
        None => None,
    };
    headers.extend(shown.iter().map(|bearer| ("authorization", &**bearer)));
    let body = match request.body_bytes {
        0 => request.body.clone().into_bytes(),
        length => vec![b'0'; length],
    };
    let before = setup.arrived();
    let edge = setup.gateway.edge;
    let answer = ask(
        edge,
        &request.method,
        path,
        &headers,
        body,
        request.announced_bytes,
    )
    .await;
    let arrived = setup.arrived() - before;
    match answer {
        Err(fault) if arrived == 0 => found.refused(format!("{asked}: {fault}")),
        Err(fault) => found.open(format!("{asked}: reached the service, but: {fault}")),
        Ok(answer) => {
            if let Some(name) = &request.keep
                && let Some((_, bearer)) = answer
                    .headers
                    .iter()
                    .find(|(name, _)| name == "authorization")
            {
                setup
                    .bearers
                    .borrow_mut()
                    .insert(name.clone(), bearer.clone());
            }
            judge(setup, request, &answer, arrived, &asked, &mut found);
        }
    }
    Ok(found)
}

/// Describes a request in a fault, without secrets.
fn asked(request: &Request, path: &str, variant: &[String]) -> String {
    let who = request.who.as_deref().unwrap_or("nobody");
    let more = if variant.is_empty() {
        String::new()
    } else {
        format!(" with {}", variant.join(", "))
    };
    format!("{} {path} as {who}{more}", request.method)
}

/// The values of words in braces.
fn words(setup: &Setup<'_>) -> anyhow::Result<BTreeMap<String, String>> {
    let identity = &setup.world.identity;
    let mut words: BTreeMap<_, _> = [
        ("{identity}".to_owned(), identity.clone()),
        ("{identity:_}".to_owned(), identity.replace('-', "_")),
        ("{identity:.}".to_owned(), identity.replace('-', ".")),
    ]
    .into();
    for (name, password) in [ADA, BOB] {
        let bearer = setup.bearer(name)?;
        words.insert(format!("{{tampered:{name}}}"), tampered(&bearer));
        words.insert(format!("{{{name}}}"), bearer);
        words.insert(format!("{{basic:{name}}}"), basic(name, password));
        words.insert(format!("{{basic-wrong:{name}}}"), basic(name, "wrong"));
    }
    Ok(words)
}

/// What must not pass, by who shows it: no token, or one with a changed signature.
pub fn refused_credentials(bearer: &str) -> [(&'static str, Option<String>); 2] {
    [("nobody", None), ("a bad token", Some(tampered(bearer)))]
}

/// Sends a GET request with this `Authorization` value, and returns the status of the answer.
pub async fn status(edge: SocketAddr, path: &str, shown: Option<&str>) -> anyhow::Result<u16> {
    let headers: Vec<_> = shown
        .map(|value| ("authorization", value))
        .into_iter()
        .collect();
    let answer = ask(edge, "GET", path, &headers, Vec::new(), None).await;
    Ok(answer.map_err(anyhow::Error::msg)?.status)
}

/// Sends a request unchanged, also one that an HTTP client would refuse to send.
pub async fn ask(
    edge: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
    announced: Option<usize>,
) -> Result<Answer, String> {
    // Parsing cuts off a fragment.
    let parsed = path.parse::<Uri>().map(|uri| uri.to_string());
    let is_usual = path.starts_with('/') && parsed.is_ok_and(|sent| sent == path);
    if is_usual && announced.is_none() {
        let reply = try_send(edge, method, path, headers, body).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pairs = reply.headers.iter();
        return Ok(Answer {
            status: reply.status,
            headers: pairs
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: text(&reply.body),
        });
    }
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = announced.unwrap_or(0);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{lines}\r\n"
    );
    let (status, body) = ask_bytes(edge, head.as_bytes()).await;
    Ok(Answer {
        status,
        headers: Vec::new(),
        body,
    })
}

fn judge(
    setup: &Setup<'_>,
    request: &Request,
    answer: &Answer,
    arrived: u64,
    asked: &str,
    found: &mut Findings,
) {
    let proxy = setup.column.proxy();
    let usual: &[u16] = match request.outcome {
        Wanted::Pass | Wanted::Answer => &[200],
        Wanted::Deny => &[401],
        Wanted::Either => &[],
    };
    let listed = if request.status.is_empty() {
        usual
    } else {
        &request.status
    };
    let listed: Vec<_> = match request.outcome {
        // The gateway translates the status only of denials by a check, not of its own denials.
        Wanted::Deny => {
            let scenarios = &setup.world.scenarios;
            let translated = listed
                .iter()
                .map(|status| scenarios.translated(proxy, *status));
            translated.chain(listed.iter().copied()).collect()
        }
        Wanted::Pass | Wanted::Answer | Wanted::Either => listed.to_vec(),
    };
    let status = answer.status;
    let is_listed = listed.is_empty() || listed.contains(&status);
    match request.outcome {
        Wanted::Pass => {
            found.demand(is_listed && arrived == 1, || {
                format!("{asked}: {status}, and the service got {arrived} requests")
            });
        }
        Wanted::Deny | Wanted::Answer if arrived > 0 => {
            found.open(format!("{asked}: {status}, and it reached the service"));
        }
        Wanted::Deny if (200..300).contains(&status) => found.open(format!("{asked}: {status}")),
        Wanted::Deny | Wanted::Answer => {
            found.demand(is_listed, || {
                format!("{asked}: {status} instead of {listed:?}")
            });
        }
        Wanted::Either => {
            found.demand(arrived > 0 || status >= 300, || {
                format!("{asked}: {status} of nobody")
            });
        }
    }
    for line in &request.reply {
        let (name, part) = line.split_once(": ").unwrap_or((line, ""));
        let has = answer
            .headers
            .iter()
            .any(|(own, value)| own == name && value.contains(part));
        found.demand(has, || format!("{asked}: the answer lacks `{line}`"));
    }
    for name in &request.reply_lacks {
        let has = answer.headers.iter().any(|(own, _)| own == name);
        found.demand(!has, || format!("{asked}: the answer has `{name}`"));
    }
    if let Some(part) = &request.says {
        found.demand(answer.body.contains(part), || {
            format!("{asked}: the body lacks {part}")
        });
    } else if arrived > 0 && matches!(request.outcome, Wanted::Pass | Wanted::Either) {
        received(setup, request, answer, asked, found);
    }
}

/// Checks what the service got; its answer contains that.
fn received(
    setup: &Setup<'_>,
    request: &Request,
    answer: &Answer,
    asked: &str,
    found: &mut Findings,
) {
    let echo: Option<Value> = serde_json::from_str(answer.body.trim()).ok();
    let part = |name| echo.as_ref().and_then(|echo| echo.get(name));
    let (Some(headers), Some(path)) = (
        part("headers").and_then(Value::as_array),
        part("path").and_then(Value::as_str),
    ) else {
        found.open(format!(
            "{asked}: reached a part of the service that does not say what it got"
        ));
        return;
    };
    let text = |pair: &Value, index| {
        pair.get(index)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let headers: Vec<_> = headers
        .iter()
        .map(|pair| (text(pair, 0), text(pair, 1)))
        .collect();
    if let Some(fault) = identity_faults(&headers, &setup.world.identity, request.who.as_deref()) {
        found.open(format!("{asked}: {fault}"));
    }
    for name in &request.lacks {
        if headers.iter().any(|(own, _)| own == name) {
            found.open(format!("{asked}: the service got `{name}`"));
        }
    }
    let path = path.to_ascii_lowercase();
    for part in &request.path_lacks {
        if path.contains(part) {
            found.open(format!("{asked}: the service got the path {path}"));
        }
    }
}

/// The service must see this user and nobody else, in every spelling of the identity header: it may read all bytes that are
/// neither letters nor digits as the same.
pub fn identity_faults(
    headers: &[(String, String)],
    identity: &str,
    who: Option<&str>,
) -> Option<String> {
    let folded = |name: &str| -> String {
        let letters = name.chars().map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        });
        letters.collect::<String>().to_ascii_lowercase()
    };
    let own = headers
        .iter()
        .filter(|(name, _)| folded(name) == folded(identity));
    let values: Vec<_> = own.map(|(_, value)| &**value).collect();
    let is_right = match who {
        Some(who) => values == [who],
        None => values.is_empty() || values == ["-"],
    };
    let wanted = who.unwrap_or("nobody");
    (!is_right).then(|| format!("the service sees {values:?} instead of {wanted}"))
}
