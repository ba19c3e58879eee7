//! The answers to requests that the door does not decide, because the decision panicked or too many are in flight.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Body};

use super::{Door, dialect::Dialect, respond};
use crate::{
    actions::authorizer::{Authorizer, TurnedAway},
    domain::{
        decision::{Decision, Denial},
        policy::Endpoint,
        request::RequestLine,
        trust::{NoAddress, Peer},
    },
    doors::layers::Refuse,
    observe::request_log::{self, Parent, Trace},
};

/// A connection of a peer.
#[derive(Clone, Debug)]
pub(super) struct Visit(pub(super) Arc<Connected>);

#[derive(Debug)]
pub(super) struct Connected {
    pub(super) door: Arc<Door>,
    pub(super) peer: Peer,
}

/// The door, by the path of the request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Dialect(Dialect),
    Endpoint(Endpoint),
    Other,
}

impl Asked {
    fn door(self) -> request_log::Door {
        match self {
            Self::Dialect(dialect) => dialect.door(),
            Self::Endpoint(endpoint) => endpoint.into(),
            Self::Other => request_log::Door::Validate,
        }
    }
}

impl Visit {
    /// Denies a request that was not decided.
    fn deny(
        &self,
        asked: Asked,
        decide: impl FnOnce(&Authorizer, Trace<'_>) -> Decision,
    ) -> Response<Full<Bytes>> {
        let Connected { door, peer } = &*self.0;
        let trace = Trace {
            door: asked.door(),
            request_id: "",
            client: peer.address().ok_or(NoAddress::Peer),
            line: RequestLine::default(),
            parent: Parent::default(),
        };
        let decision = decide(&door.authorizer, trace);
        let realm = &door.authorizer.live().now().realm;
        let answer = match decision {
            Decision::Deny(denial) => denial.answer(realm),
            Decision::Allow(_) | Decision::Issue(_) | Decision::Done(_) => {
                Denial::Nobody.answer(realm)
            }
        };
        match asked {
            Asked::Dialect(dialect) => dialect.deny(answer, door.sign_in.as_ref()),
            Asked::Endpoint(_) | Asked::Other => respond(answer),
        }
    }
}

impl Refuse for Visit {
    type Form = Asked;
    type Response = Response<Full<Bytes>>;

    fn form<B>(&self, request: &Request<B>) -> Asked {
        let path = request.uri().path();
        if let Some(dialect) = Dialect::at(path) {
            return Asked::Dialect(dialect);
        }
        Endpoint::at(path).map_or(Asked::Other, Asked::Endpoint)
    }

    fn panicked(&self, asked: Asked) -> Response<Full<Bytes>> {
        self.deny(asked, |authorizer, trace| {
            authorizer.deny_after_panic(trace).decision
        })
    }

    fn overloaded<B>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send + 'static
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let response = self.deny(self.form(&request), |authorizer, trace| {
            authorizer.turn_away(TurnedAway::Overloaded, trace)
        });
        // The rest of the body is read after the answer.
        std::future::ready(response)
    }
}
