//! The tower layers around the gRPC and the HTTP door: panics and requests beyond the limit become denials in the
//! format of the door. Must not know rules or wire formats.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::Either;
use hyper::{Request, body::Body};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

/// Writes the answers of a door to requests that it does not decide.
pub(crate) trait Refuse: Clone + Send + 'static {
    /// The properties of a request that determine the format of its answer; read before the door consumes the request.
    type Form: Copy;
    type Response: Send;

    fn form<B>(&self, request: &Request<B>) -> Self::Form;

    /// The answer if the decision panicked.
    fn panicked(&self, form: Self::Form) -> Self::Response;

    /// The answer if too many requests are in flight.
    fn overloaded<B>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Self::Response> + Send + 'static
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static;
}

/// Answers if the door panics. Otherwise hyper resets the stream or the connection, and Envoy with `failure_mode_allow`
/// lets a request without an answer pass.
///
/// tower-http's `CatchPanicLayer` does not fit: its answer cannot depend on the request, as that of a dialect does, and it
/// boxes the body of every response.
#[derive(Clone, Debug)]
pub(crate) struct CatchPanicLayer<R>(pub(crate) R);

impl<S, R: Clone> Layer<S> for CatchPanicLayer<R> {
    type Service = CatchPanic<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanic {
            inner,
            refuse: self.0.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct CatchPanic<S, R> {
    inner: S,
    refuse: R,
}

impl<S, R, B> Service<Request<B>> for CatchPanic<S, R>
where
    S: Service<Request<B>, Response = R::Response, Error = Infallible>,
    R: Refuse,
{
    type Response = R::Response;
    type Error = Infallible;
    type Future = CatchPanicFuture<S::Future, R, R::Form>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let form = self.refuse.form(&request);
        CatchPanicFuture {
            future: catch_unwind(AssertUnwindSafe(|| self.inner.call(request))).ok(),
            refuse: self.refuse.clone(),
            form,
        }
    }
}

pin_project! {
    pub(crate) struct CatchPanicFuture<F, R, Form> {
        // `None` if the call that creates it panicked.
        #[pin]
        future: Option<F>,
        refuse: R,
        form: Form,
    }
}

impl<F, R> Future for CatchPanicFuture<F, R, R::Form>
where
    F: Future<Output = Result<R::Response, Infallible>>,
    R: Refuse,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut me = self.project();
        let polled = (me.future.as_mut().as_pin_mut())
            .and_then(|future| catch_unwind(AssertUnwindSafe(|| future.poll(context))).ok());
        polled.unwrap_or_else(|| Poll::Ready(Ok(me.refuse.panicked(*me.form))))
    }
}

/// Counts the requests in flight at both doors together.
#[derive(Debug)]
pub(crate) struct InFlight {
    count: AtomicUsize,
    most: usize,
}

/// The peers that a limit applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    Trusted,
    /// They get a quarter of the places, so that they cannot occupy those of gateways.
    Others,
}

impl From<bool> for Peers {
    fn from(is_trusted: bool) -> Self {
        match is_trusted {
            true => Self::Trusted,
            false => Self::Others,
        }
    }
}

impl InFlight {
    /// Lives as long as the process, so that requests share it without counting references.
    pub(crate) fn leak(most: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            count: AtomicUsize::new(0),
            most,
        }))
    }

    /// A place for a request, if there is one; never waits.
    fn enter(&'static self, peers: Peers) -> Option<Place> {
        let most = match peers {
            Peers::Trusted => self.most,
            Peers::Others => (self.most / 4).max(1),
        };
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        let place = Place(self);
        (before < most).then_some(place)
    }
}

/// A place of a request in flight, until it is dropped.
#[derive(Debug)]
struct Place(&'static InFlight);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Refuses requests beyond the limit.
///
/// tower's `LoadShed` around `GlobalConcurrencyLimit` does not fit: tokio's semaphore behind it takes a lock whenever a
/// permit is returned, that is once a request, and what is shed is an error without the request, where a door needs the
/// request to answer it.
#[derive(Clone, Debug)]
pub(crate) struct LimitLayer<R> {
    pub(crate) in_flight: &'static InFlight,
    pub(crate) peers: Peers,
    pub(crate) refuse: R,
}

impl<S, R: Clone> Layer<S> for LimitLayer<R> {
    type Service = Limit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Limit {
            inner,
            limit: self.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Limit<S, R> {
    inner: S,
    limit: LimitLayer<R>,
}

/// Boxed, because it has no name; nothing else of a door is.
type Shed<T> = Pin<Box<dyn Future<Output = Result<T, Infallible>> + Send>>;

impl<S, R, B> Service<Request<B>> for Limit<S, R>
where
    S: Service<Request<B>, Response = R::Response, Error = Infallible>,
    R: Refuse,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = R::Response;
    type Error = Infallible;
    type Future = Either<InPlace<S::Future>, Shed<R::Response>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let LimitLayer {
            in_flight,
            peers,
            refuse,
        } = &self.limit;
        match in_flight.enter(*peers) {
            Some(place) => Either::Left(InPlace {
                future: self.inner.call(request),
                _place: place,
            }),
            None => {
                let refused = refuse.overloaded(request);
                Either::Right(Box::pin(async { Ok(refused.await) }))
            }
        }
    }
}

pin_project! {
    /// A request in flight, with its place.
    pub(crate) struct InPlace<F> {
        #[pin]
        future: F,
        _place: Place,
    }
}

impl<F: Future> Future for InPlace<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;

    /// Answers with plain text.
    #[derive(Clone, Copy)]
    struct Words;

    impl Refuse for Words {
        type Form = usize;
        type Response = String;

        fn form<B>(&self, request: &Request<B>) -> usize {
            request.uri().path().len()
        }

        fn panicked(&self, form: usize) -> String {
            format!("panicked {form}")
        }

        fn overloaded<B>(
            &self,
            request: Request<B>,
        ) -> impl Future<Output = String> + Send + 'static {
            std::future::ready(format!("overloaded {}", request.uri().path()))
        }
    }

    fn request(path: &str) -> Request<Empty<Bytes>> {
        Request::get(path).body(Empty::new()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_before_or_during_the_future_is_answered() {
        let at_once = ServiceBuilder::new()
            .layer(CatchPanicLayer(Words))
            .service(service_fn(|_| -> std::future::Ready<_> {
                panic!("a simulated bug")
            }));
        assert_eq!(at_once.oneshot(request("/ab")).await.unwrap(), "panicked 3");
        let in_flight = InFlight::leak(1);
        let later = ServiceBuilder::new()
            .layer(CatchPanicLayer(Words))
            .layer(LimitLayer {
                in_flight,
                peers: Peers::Trusted,
                refuse: Words,
            })
            .service(service_fn(|request: Request<_>| async move {
                tokio::task::yield_now().await;
                assert_ne!(request.uri().path(), "/bad");
                Ok("decided".to_owned())
            }));
        for (path, expected) in [("/bad", "panicked 4"), ("/good", "decided")] {
            let answer = later.clone().oneshot(request(path)).await.unwrap();
            assert_eq!(answer, expected);
            assert_eq!(in_flight.count.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn untrusted_peers_get_a_quarter_of_the_requests_in_flight() {
        let in_flight = InFlight::leak(8);
        let enter = |peers| in_flight.enter(peers);
        let first: Vec<_> = (0..2).map(|_| enter(Peers::Others).unwrap()).collect();
        assert!(enter(Peers::Others).is_none());
        let rest: Vec<_> = (2..8).map(|_| enter(Peers::Trusted).unwrap()).collect();
        assert!(enter(Peers::Trusted).is_none());
        drop((first, rest));
        assert_eq!(in_flight.count.load(Ordering::Relaxed), 0);
        assert!(enter(Peers::Others).is_some());
    }

    #[tokio::test]
    async fn a_request_beyond_the_limit_is_refused_and_not_queued() {
        let (release, held) = tokio::sync::watch::channel(());
        let service = ServiceBuilder::new()
            .layer(LimitLayer {
                in_flight: InFlight::leak(1),
                peers: Peers::Trusted,
                refuse: Words,
            })
            .service(service_fn(move |_| {
                let mut held = held.clone();
                async move {
                    let _ = held.changed().await;
                    Ok("decided".to_owned())
                }
            }));
        let first = tokio::spawn(service.clone().oneshot(request("/first")));
        tokio::task::yield_now().await;
        let second = service.clone().oneshot(request("/second")).await.unwrap();
        assert_eq!(second, "overloaded /second");
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), "decided");
    }
}
