//! Envoy's door: `CheckRequest` -> `Request`, `Decision` -> `CheckResponse`. Contains no rule.
//!
//! Envoy reads `status.code` alone, an unset status means "allow", and a gRPC error lets the request through where
//! `failure_mode_allow` is set. So every answer is made by [`respond`], and no answer is a gRPC error.

use std::{num::NonZeroI32, sync::LazyLock};

use bytes::Bytes;

use crate::{
    authorizer::{Authorizer, Trace},
    domain::{
        credential::Credential,
        decision::{
            Admission, Answer, Caller, Decision, Forwarding, IDENTITY_HEADERS, LoginReply, Realm,
            reads_as_identity,
        },
        path::Tolerance,
        request::{Json, Method, Request, RequestFault, RequestLine, TokenForm, is_json},
    },
    wire::{
        envoy::{
            config::core::v3::{
                HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
            },
            service::auth::v3::{
                CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
                attribute_context::HttpRequest, authorization_server::Authorization,
                check_response::HttpResponse,
            },
            r#type::v3::HttpStatus,
        },
        google::rpc::Status,
    },
};

/// The ext_authz service.
#[derive(Clone, Debug)]
pub struct Door {
    /// Decides.
    pub authorizer: Authorizer,
    /// The realm of challenges.
    pub realm: Realm,
    /// Which ambiguous paths are judged.
    pub tolerance: Tolerance,
}

#[tonic::async_trait]
impl Authorization for Door {
    #[expect(
        clippy::disallowed_types,
        reason = "the signature is the trait's; no error is ever made"
    )]
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(self.answer(request.get_ref()).await))
    }
}

impl Door {
    /// Answers one check.
    pub async fn answer(&self, check: &CheckRequest) -> CheckResponse {
        let Some(http) = http(check) else {
            let decision = self.authorizer.refuse(RequestFault::NotHttp, TRACE);
            return encode(&decision, &Extra::default(), &self.realm);
        };
        let (request, extra) = decode(http, self.tolerance);
        let trace = Trace {
            request_id: extra.request_id,
            line: line(http),
            ..TRACE
        };
        let decision = match request {
            Ok(request) => self.authorizer.decide(&request, trace).await,
            Err(fault) => self.authorizer.refuse(fault, trace),
        };
        encode(&decision, &extra, &self.realm)
    }
}

const TRACE: Trace<'static> = Trace {
    door: "grpc",
    request_id: "",
    line: RequestLine {
        method: b"",
        host: b"",
        target: b"",
    },
};

fn line(http: &HttpRequest) -> RequestLine<'_> {
    RequestLine {
        method: &http.method,
        host: &http.host,
        target: &http.path,
    }
}

fn http(check: &CheckRequest) -> Option<&HttpRequest> {
    check.attributes.as_ref()?.request.as_ref()?.http.as_ref()
}

/// What the answer needs of a check beside the decision.
#[derive(Debug, Default)]
pub struct Extra<'a> {
    /// Names of headers that a service could take for ours.
    aliases: Vec<Bytes>,
    /// Whether the filter is set to send some headers only, so that there may be aliases we were not shown.
    filtered: bool,
    request_id: &'a str,
}

/// Reads a check.
pub fn decode(
    http: &HttpRequest,
    tolerance: Tolerance,
) -> (Result<Request<'_>, RequestFault>, Extra<'_>) {
    let mut headers = Headers::default();
    // With encode_raw_headers `headers` is empty; where a caller fills both, the raw ones are the true ones.
    match http
        .header_map
        .as_ref()
        .filter(|map| !map.headers.is_empty())
    {
        Some(map) => {
            for header in &map.headers {
                let value = match header.raw_value.is_empty() {
                    true => &header.value,
                    false => &header.raw_value,
                };
                headers.see(&header.key, value);
            }
        }
        None => {
            for header in &http.headers {
                headers.see(&header.key, &header.value);
            }
        }
    }
    let Headers {
        authorization,
        accept,
        content_type,
        origin,
        announced,
        partial,
        request_id,
        doubled,
        pseudo,
        aliases,
    } = headers;
    let extra = Extra {
        aliases,
        filtered: !pseudo,
        request_id: loggable(request_id.unwrap_or(&http.id)),
    };
    let request = line(http)
        .parse(tolerance)
        .and_then(|(method, host, path)| {
            if doubled {
                return Err(RequestFault::DoubledHeader);
            }
            let body = match http.raw_body.is_empty() {
                true => &http.body,
                false => &http.raw_body,
            };
            Ok(Request {
                method,
                host,
                path,
                credential: Credential::parse(authorization.iter().flatten().copied()),
                preflight: match (method.as_str(), origin, announced) {
                    ("OPTIONS", Some(_), Some(announced)) => Method::parse(announced),
                    _ => None,
                },
                json: match (content_type.is_some_and(is_json), partial) {
                    (false, _) => Json::Absent,
                    (true, Some(b"true")) => Json::Partial,
                    (true, _) if body.is_empty() => Json::Absent,
                    (true, _) => Json::Whole(body),
                },
                reply: accept.map_or(TokenForm::Plain, TokenForm::accepted),
            })
        });
    (request, extra)
}

/// The headers that matter, in one pass.
#[derive(Default)]
struct Headers<'a> {
    authorization: [Option<&'a [u8]>; 2],
    accept: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    announced: Option<&'a [u8]>,
    partial: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
    doubled: bool,
    pseudo: bool,
    aliases: Vec<Bytes>,
}

impl<'a> Headers<'a> {
    fn see(&mut self, name: &'a Bytes, value: &'a [u8]) {
        // Envoy sends lower case; people who call by hand may not.
        let mut lower = [0; LONGEST_NAME];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return;
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let slot = match &*lower {
            b"authorization" => match &mut self.authorization {
                [first @ None, _] => first,
                [_, second] => {
                    *second = Some(value);
                    return;
                }
            },
            b"accept" => {
                self.accept.get_or_insert(value);
                return;
            }
            b"content-type" => &mut self.content_type,
            b"origin" => &mut self.origin,
            b"access-control-request-method" => &mut self.announced,
            b"x-envoy-auth-partial-body" => &mut self.partial,
            b"x-request-id" => {
                self.request_id.get_or_insert(value);
                return;
            }
            b":path" => {
                self.pseudo = true;
                return;
            }
            other => {
                if reads_as_identity(other)
                    && !IDENTITY_HEADERS.iter().any(|own| own.as_bytes() == other)
                {
                    self.aliases.push(Bytes::copy_from_slice(other));
                }
                return;
            }
        };
        self.doubled |= slot.replace(value).is_some();
    }
}

/// Longer than any name that is looked for.
const LONGEST_NAME: usize = 32;

/// A request id as it may stand in a log: visible ASCII, or nothing.
fn loggable(id: &[u8]) -> &str {
    let id = id.get(..128).unwrap_or(id);
    match id.iter().all(|byte| matches!(byte, b'!'..=b'~')) {
        true => str::from_utf8(id).unwrap_or_default(),
        false => "",
    }
}

/// Writes an answer.
#[must_use]
pub fn encode(decision: &Decision, extra: &Extra<'_>, realm: &Realm) -> CheckResponse {
    match decision {
        Decision::Allow(admission) => respond(Verdict::Allow(ok(admission, extra))),
        Decision::Deny(denial) => respond(Verdict::deny(denial.answer(realm))),
        Decision::Issue(issued) => match issued.reply {
            LoginReply::Direct => respond(Verdict::deny(issued.answer())),
            LoginReply::Through => {
                let admission = Admission {
                    caller: Caller::Known(issued.identity.clone()),
                    authorization: Forwarding::Strip,
                };
                let mut ok = ok(&admission, extra);
                for (name, value) in issued.token_headers() {
                    ok.response_headers_to_add
                        .push(overwrite(name, value.into_owned().into()));
                }
                respond(Verdict::Allow(ok))
            }
        },
    }
}

/// What Envoy is told: the code that decides and the rest that fits it, never one without the other.
enum Verdict {
    Allow(OkHttpResponse),
    Deny(NonZeroI32, DeniedHttpResponse),
}

impl Verdict {
    /// Envoy sends a denied response to the client as it is, whatever its status, 200 included.
    fn deny(answer: Answer) -> Self {
        let Answer {
            status,
            headers,
            body,
        } = answer;
        Self::Deny(
            code(status),
            DeniedHttpResponse {
                status: Some(HttpStatus {
                    code: status.into(),
                }),
                headers: headers
                    .into_iter()
                    .map(|(name, value)| overwrite(name, value.into_owned().into()))
                    .collect(),
                body: match body {
                    std::borrow::Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
                    std::borrow::Cow::Owned(text) => text.into(),
                },
            },
        )
    }
}

/// The only place that makes a [`CheckResponse`].
fn respond(verdict: Verdict) -> CheckResponse {
    let (code, http) = match verdict {
        Verdict::Allow(ok) => (0, HttpResponse::OkResponse(ok)),
        Verdict::Deny(code, denied) => (code.get(), HttpResponse::DeniedResponse(denied)),
    };
    CheckResponse {
        status: Some(Status {
            code,
            message: Bytes::new(),
        }),
        http_response: Some(http),
    }
}

/// The code of `google.rpc.Code` nearest to an HTTP status; Envoy shows it in its log alone.
fn code(status: u16) -> NonZeroI32 {
    const fn new(code: i32) -> NonZeroI32 {
        match NonZeroI32::new(code) {
            Some(code) => code,
            None => NonZeroI32::MIN,
        }
    }
    match status {
        400 | 413 => const { new(3) },
        401 => const { new(16) },
        503 => const { new(14) },
        405 => const { new(12) },
        200..300 => const { new(10) },
        _ => const { new(7) },
    }
}

fn ok(admission: &Admission, extra: &Extra<'_>) -> OkHttpResponse {
    let Admission {
        caller,
        authorization,
    } = admission;
    let mut headers_to_remove = match extra.filtered {
        true => ALIASES.clone(),
        false => extra.aliases.clone(),
    };
    let headers = match caller {
        // A header that is set and removed is gone, so the two never meet.
        Caller::Known(identity) => IDENTITY_HEADERS
            .into_iter()
            .zip(identity.header_values())
            .map(|(name, value)| overwrite(name, value.into_owned().into()))
            .collect(),
        Caller::Anonymous => {
            headers_to_remove
                .extend(IDENTITY_HEADERS.map(|name| Bytes::from_static(name.as_bytes())));
            Vec::new()
        }
    };
    if *authorization == Forwarding::Strip {
        headers_to_remove.push(Bytes::from_static(b"authorization"));
    }
    OkHttpResponse {
        headers,
        headers_to_remove,
        response_headers_to_add: Vec::new(),
    }
}

/// Envoy up to 1.36 obeys `append`, later versions `append_action` where `append` is unset; with both, every version
/// replaces what the client sent.
fn overwrite(name: &'static str, value: Bytes) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: Bytes::from_static(name.as_bytes()),
            value,
            raw_value: Bytes::new(),
        }),
        append: Some(false),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

/// Every spelling that a service could take for an identity header, but for the header itself.
static ALIASES: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let mut aliases = Vec::new();
    for own in IDENTITY_HEADERS {
        let parts: Vec<_> = own.split('-').collect();
        let [first, second, third] = &*parts else {
            continue;
        };
        for left in ['-', '_', '.'] {
            for right in ['-', '_', '.'] {
                if (left, right) != ('-', '-') {
                    aliases.push(format!("{first}{left}{second}{right}{third}").into());
                }
            }
        }
    }
    aliases
});

#[cfg(test)]
mod tests;
