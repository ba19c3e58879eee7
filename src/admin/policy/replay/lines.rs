//! Lines of access logs: which request, how it ended, and who asked. Judges nothing.
//!
//! The format is recognised for each line: Envoy's default text, JSON (of Envoy, Istio, Envoy Gateway, and Doorward's log),
//! Common Log with or without what nginx's `combined` adds, and Doorward's log as text.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

/// A request in a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Logged<'a> {
    pub(super) method: Cow<'a, str>,
    /// Empty if the log has none.
    pub(super) host: Cow<'a, str>,
    pub(super) target: Cow<'a, str>,
    pub(super) end: End,
    pub(super) who: Who,
    pub(super) user: Option<Cow<'a, str>>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// It passed, or an endpoint answered it.
    Passed,
    /// It was refused with 401 or 403.
    Refused,
    /// The log does not say.
    Unknown,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// Somebody without a valid token.
    Anonymous,
    /// A signed-in user.
    SignedIn,
    /// The log does not say.
    Unknown,
}

impl End {
    /// The outcome by status. Doorward and services use 400, 405, 429 and 503 for too many purposes.
    fn of_status(status: u64) -> Self {
        match status {
            401 | 403 => Self::Refused,
            400 | 405 | 429 | 503 => Self::Unknown,
            100..=599 => Self::Passed,
            _ => Self::Unknown,
        }
    }
}

/// Reads a line; `None` if it is not about a request.
pub(super) fn read(line: &str) -> Option<Logged<'_>> {
    match line.as_bytes().first()? {
        b'{' => json(line),
        b'[' => envoy(line),
        _ => doorward(line).or_else(|| common(line)),
    }
}

/// Whether a line is one of Doorward's log that is not about a request.
pub(super) fn is_about_something_else(line: &str) -> bool {
    let is_text = line.get(..5).is_some_and(|year| year.ends_with('-'))
        && line.contains('T')
        && !line.contains(" method=");
    let is_json = line.starts_with("{\"timestamp\"") && !line.contains("\"method\"");
    is_text || is_json
}

fn known(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    (!text.is_empty() && text != "-").then_some(text)
}

/// `[time] "METHOD path protocol" status … "authority" "upstream"`, with anything between and after.
fn envoy(line: &str) -> Option<Logged<'_>> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let (method, target) = request_line(request)?;
    let status = rest.split(' ').next()?.parse().ok()?;
    // Quotes in the user agent are not escaped, but what follows it has none.
    let mut quoted = rest.rsplit('"').skip(3).step_by(2);
    let host = quoted.next().unwrap_or_default();
    Some(Logged {
        method: method.into(),
        host: known(host.into()).unwrap_or_default(),
        target,
        end: End::of_status(status),
        who: Who::Unknown,
        user: None,
    })
}

/// `address - user [time] "METHOD path protocol" status bytes`, with anything after.
fn common(line: &str) -> Option<Logged<'_>> {
    let (peer, rest) = line.split_once(" [")?;
    let (_, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let (method, target) = request_line(request)?;
    let status = rest.split(' ').next()?.parse().ok()?;
    let user = peer.splitn(3, ' ').nth(2)?;
    let user = known(unescaped(user));
    Some(Logged {
        method: method.into(),
        host: Cow::Borrowed(""),
        target,
        end: End::of_status(status),
        who: match user {
            Some(_) => Who::SignedIn,
            None => Who::Unknown,
        },
        user,
    })
}

/// A line of Doorward's log, as text: `deny door="grpc" … method=GET host=… path=/ rule="…" reason="…"`.
fn doorward(line: &str) -> Option<Logged<'_>> {
    let (before, rest) = line.split_once(" door=\"")?;
    let verdict = before.rsplit(' ').next()?;
    let (_, rest) = rest.split_once(" method=")?;
    let (method, rest) = rest.split_once(" host=")?;
    let (host, rest) = rest.split_once(" path=")?;
    let (target, rest) = rest.split_once(' ')?;
    let field = |name: &str| {
        let (_, value) = rest.split_once(name)?;
        value.split('"').next()
    };
    let reason = field("reason=\"")?;
    Some(of_decision(
        unescaped(method),
        unescaped(host),
        unescaped(target),
        verdict,
        reason,
        field(" sub=\"").map(Cow::Borrowed),
    ))
}

fn of_decision<'a>(
    method: Cow<'a, str>,
    host: Cow<'a, str>,
    target: Cow<'a, str>,
    verdict: &str,
    reason: &str,
    user: Option<Cow<'a, str>>,
) -> Logged<'a> {
    Logged {
        method,
        host,
        target,
        end: match verdict {
            "allow" | "issue" | "done" => End::Passed,
            "deny" => End::Refused,
            _ => End::Unknown,
        },
        who: match reason {
            "anonymous" | "missing-token" => Who::Anonymous,
            "token" | "missing-role" => Who::SignedIn,
            _ if user.is_some() => Who::SignedIn,
            _ => Who::Unknown,
        },
        user,
    }
}

/// The members that are read; all others are skipped.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default, alias = "request_method")]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    path: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "x-envoy-origin-path")]
    origin_path: Option<Cow<'a, str>>,
    #[serde(borrow, default, alias = "request_uri")]
    uri: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    host: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    authority: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = ":authority")]
    pseudo_authority: Option<Cow<'a, str>>,
    #[serde(default)]
    status: Option<Value>,
    #[serde(default)]
    response_code: Option<Value>,
    #[serde(borrow, default)]
    decision: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    sub: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    remote_user: Option<Cow<'a, str>>,
    /// Of Doorward's log.
    #[serde(borrow, default)]
    fields: Option<Box<Line<'a>>>,
}

fn json(line: &str) -> Option<Logged<'_>> {
    let line: Line<'_> = serde_json::from_str(line).ok()?;
    match line.fields {
        Some(own) => {
            let verdict = own.message?;
            Some(of_decision(
                unescape_all(own.method?),
                unescape_all(own.host.unwrap_or_default()),
                unescape_all(own.path?),
                &verdict,
                &own.reason?,
                own.sub,
            ))
        }
        None => of_gateway(line),
    }
}

fn of_gateway(line: Line<'_>) -> Option<Logged<'_>> {
    let target = line
        .origin_path
        .and_then(known)
        .or(line.path)
        .or(line.uri)?;
    let hosts = [line.authority, line.pseudo_authority, line.host];
    let host = hosts.into_iter().flatten().find_map(known);
    let user = line
        .sub
        .and_then(known)
        .or(line.remote_user.and_then(known));
    let logged = of_decision(
        line.method?,
        host.unwrap_or_default(),
        target,
        line.decision.as_deref().unwrap_or_default(),
        line.reason.as_deref().unwrap_or_default(),
        user,
    );
    let status = line.response_code.or(line.status).as_ref().and_then(number);
    Some(match (logged.end, status) {
        (End::Unknown, Some(status)) => Logged {
            end: End::of_status(status),
            ..logged
        },
        _ => logged,
    })
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Method and target of a request line, the escapes of nginx decoded.
fn request_line(text: &str) -> Option<(&str, Cow<'_, str>)> {
    let (method, rest) = text.split_once(' ')?;
    let (target, _) = rest.rsplit_once(' ')?;
    Some((method, unescaped(target)))
}

fn unescape_all(text: Cow<'_, str>) -> Cow<'_, str> {
    match unescaped(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(decoded) => Cow::Owned(decoded),
    }
}

/// Decodes `\xHH` and `\` before a character, as nginx and Doorward write them.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match rest {
            [b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                let digits = str::from_utf8(&digits).ok();
                match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = after;
                    }
                    None => bytes.push(b'\\'),
                }
            }
            [escaped, after @ ..] => {
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                });
                rest = after;
            }
            [] => bytes.push(b'\\'),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        match read(line) {
            None => "-".into(),
            Some(Logged {
                method,
                host,
                target,
                end,
                who,
                user,
            }) => format!(
                "{method} {host} {target} {end:?} {who:?} {}",
                user.unwrap_or_default()
            ),
        }
    }

    #[test]
    fn every_format_is_read() {
        for (line, expected) in [
            (
                r#"[2026-11-30T06:00:00.310Z] "POST /api/v1?x=1 HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "agent "quoted" 1" "cc21d9b0" "api.example" "10.0.2.1:80""#,
                "POST api.example /api/v1?x=1 Passed Unknown ",
            ),
            (
                r#"[2026-11-30T06:00:00.310Z] "GET /a HTTP/1.1" 403 UAEX ext_authz_denied - "-" 0 9 1 - "-" "curl" "id" "h:8080" "-" outbound|80||a - 10.0.0.1:80"#,
                "GET h:8080 /a Refused Unknown ",
            ),
            (
                r#"127.0.0.1 - bob [30/Nov/2026:06:00:00 +0000] "GET /a HTTP/1.1" 200 12 "-" "curl/8""#,
                "GET  /a Passed SignedIn bob",
            ),
            (
                r#"127.0.0.1 - - [30/Nov/2026:06:00:00 +0000] "GET /a\x22b HTTP/1.1" 401 12"#,
                "GET  /a\"b Refused Unknown ",
            ),
            (
                r#"{"authority":"a.example","method":"GET","path":"/x","response_code":503,"bytes":1}"#,
                "GET a.example /x Unknown Unknown ",
            ),
            (
                r#"{"method":"GET","x-envoy-origin-path":"/o","path":"/x",":authority":"a","response_code":"200"}"#,
                "GET a /o Passed Unknown ",
            ),
            (
                r#"{"method":"GET","path":"/x","status":403,"decision":"deny","reason":"missing-role","sub":"7"}"#,
                "GET  /x Refused SignedIn 7",
            ),
            (
                r#"{"timestamp":"t","level":"INFO","fields":{"message":"deny","door":"grpc","method":"GET","host":"h","path":"/x","reason":"missing-token"}}"#,
                "GET h /x Refused Anonymous ",
            ),
            (
                r#"2026-11-30T06:00:00.000001Z  INFO deny door="grpc" client=127.0.0.1 method=GET host=h:1 path=/a rule="/*" reason="missing-role" sub="7" request_id="r" decision=d micros=5"#,
                "GET h:1 /a Refused SignedIn 7",
            ),
            ("", "-"),
            ("nonsense", "-"),
            (r#"{"method":5}"#, "-"),
            (r#"{"timestamp":"t","fields":{"message":"serving"}}"#, "-"),
            (r#"1.2.3.4 - - [t] "\x16\x03\x01" 400 157 "-" "-""#, "-"),
            (r#"1.2.3.4 - - [t] "-" 408 0 "-" "-""#, "-"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
        for line in [
            r#"{"timestamp":"t","fields":{"message":"serving"}}"#,
            "2026-11-30T06:00:00.000001Z  INFO serving grpc=127.0.0.1:9001",
        ] {
            assert!(is_about_something_else(line), "{line}");
        }
        assert!(!is_about_something_else("nonsense"));
    }
}
