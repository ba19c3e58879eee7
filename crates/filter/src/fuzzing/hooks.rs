//! The hooks of a request, in any order, with the Envoy for tests.

use serde_json::json;

use super::{IDENTITY, content, header};
use crate::abi::host::{FakeConfig, FakeRequest};

/// `envoy_dynamic_module_type_on_http_filter_request_headers_status_Continue`, and of bodies.
const CONTINUE: u32 = 0;

thread_local! {
    /// As the configuration of a listener that is never changed.
    static CONFIG: FakeConfig = config();
}

fn config() -> FakeConfig {
    let text = json!({
        "content": content(),
        "actions": { "cluster": "doorward", "max_body": 64 },
        "metadata": "doorward",
    });
    FakeConfig::filter(text.to_string().as_bytes()).unwrap()
}

/// Calls the hooks of one request: its headers, an empty line, and a step in each line.
///
/// | step | what Envoy does |
/// |---|---|
/// | `headers`, `headers last` | the headers arrive |
/// | `body TEXT`, `last TEXT` | a part of the body arrives, the blanks of the text between its chunks |
/// | `trailers`, `response`, `end` | these |
/// | `pass`, `deny`, `status`, `reply TEXT`, `lost` | a callout ends, with an answer of Doorward, another one, or none |
/// | `ends`, `inline`, `refuse`, `fail`, `hide` | from now on: a request ends in the function that answers it, or in the one that resumes it; callouts cannot be sent, or fail at once; nothing can be read |
///
/// # Panics
///
/// If a hook panics, if a function of Envoy is called that must not be, if a request passes without a public rule and without
/// Doorward's answer or with an identity header of the client, or if it waits for nothing.
pub fn hooks(script: &[u8]) {
    let at = script.windows(2).position(|pair| pair == b"\n\n");
    let (head, steps) = script.split_at(at.unwrap_or(script.len()));
    let headers: Vec<_> = (head.split(|byte| *byte == b'\n'))
        .filter_map(header)
        .collect();
    CONFIG.with(|config| {
        let mut run = Run {
            request: config.request(&headers, Some("203.0.113.7:4711")),
            passes: 0,
            is_held: false,
        };
        for line in steps.split(|byte| *byte == b'\n') {
            run.step(line);
        }
    });
}

struct Run<'config> {
    request: FakeRequest<'config>,
    /// How often Doorward has let the request pass.
    passes: usize,
    /// Whether the module has stopped it.
    is_held: bool,
}

impl Run<'_> {
    fn step(&mut self, line: &[u8]) {
        let at = line.iter().position(|byte| *byte == b' ');
        let (name, text) = line.split_at(at.unwrap_or(line.len()));
        let text = text.get(1..).unwrap_or_default();
        let request = &self.request;
        match name {
            b"headers" => {
                let is_last = text == b"last";
                let flow = request.headers(is_last);
                self.is_held = flow.is_some_and(|flow| flow != CONTINUE);
                if flow == Some(CONTINUE) {
                    may_pass(request);
                }
                self.moves_on(flow.filter(|_| is_last));
            }
            b"body" | b"last" => {
                let chunks: Vec<_> = text.split(|byte| *byte == b' ').collect();
                let is_last = name == b"last";
                let flow = request.body(&chunks, is_last);
                self.stays(flow);
                self.moves_on(flow.filter(|_| is_last));
            }
            b"trailers" => {
                let flow = request.trailers();
                self.stays(flow);
                self.moves_on(flow);
            }
            b"response" => {
                let flow = request.response_headers();
                assert!(flow.is_none_or(|flow| flow == CONTINUE));
            }
            b"end" => request.end(),
            b"pass" => {
                self.passes += 1;
                request.reply(b"200", &passing());
            }
            b"deny" => request.reply(b"200", &denying()),
            b"status" => request.reply(b"503", b""),
            b"reply" => request.reply(b"200", text),
            b"lost" => request.fails(),
            b"ends" => request.behave(|habits| habits.ends_in_answer = true),
            b"inline" => request.behave(|habits| habits.ends_in_resume = true),
            b"refuse" => request.behave(|habits| habits.refuses_calls = true),
            b"fail" => request.behave(|habits| habits.fails_in_call = true),
            b"hide" => request.behave(|habits| habits.hides_all = true),
            _ => {}
        }
        assert!(self.request.outcome().resumed <= self.passes);
    }

    /// A stopped request continues only if it is resumed.
    fn stays(&self, flow: Option<u32>) {
        if self.is_held && flow == Some(CONTINUE) {
            assert!(self.request.outcome().resumed > 0);
        }
    }

    /// A request that is complete and stopped was answered, or waits for Doorward.
    fn moves_on(&self, flow: Option<u32>) {
        if flow.is_some_and(|flow| flow != CONTINUE) {
            let outcome = self.request.outcome();
            assert!(outcome.answer.is_some() || outcome.resumed > 0 || self.request.waits());
        }
    }
}

/// Only a public rule lets a request pass without Doorward, because nobody has a token.
fn may_pass(request: &FakeRequest<'_>) {
    let metadata = request.outcome().metadata;
    let rule = metadata.iter().rev().find(|(key, _)| key == "rule");
    assert_eq!(rule.map(|(_, rule)| &**rule), Some("/public/*"));
    let forwarded = request.forwarded();
    let is_identity = |name: &[u8]| IDENTITY.contains(&name);
    assert!(!forwarded.iter().any(|(name, _)| is_identity(name)));
}

/// A field of a protobuf message with short content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or_default();
    [&[number << 3 | 2, length], content].concat()
}

fn named(number: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let header = [field(1, name), field(2, value)].concat();
    field(number, &field(1, &header))
}

/// A gRPC frame.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or_default();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// A `CheckResponse` that lets a request pass, with headers for the service and for the client.
pub(crate) fn passing() -> Vec<u8> {
    let ok = [
        named(2, b"X-Auth-User", b"ada"),
        field(5, b"x-auth-admin"),
        named(6, b"Set-Cookie", b"a=b"),
    ];
    frame(&[field(1, b""), field(3, &ok.concat())].concat())
}

/// A `CheckResponse` that refuses a request with 401.
pub(crate) fn denying() -> Vec<u8> {
    let denied = [
        field(1, &[0x08, 0x91, 0x03]),
        named(2, b"WWW-Authenticate", b"Bearer"),
        field(3, b"no"),
    ];
    frame(&[field(1, &[0x08, 16]), field(2, &denied.concat())].concat())
}
