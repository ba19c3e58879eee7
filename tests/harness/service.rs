//! The service behind the gateway, running in the test process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{net::TcpListener, task::JoinHandle};

#[path = "../../examples/upstream.rs"]
mod upstream;

/// The running service.
pub struct Service {
    task: JoinHandle<()>,
    requests: Arc<AtomicU64>,
    /// The address it listens on.
    pub address: SocketAddr,
}

impl Service {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts it on this address.
    ///
    /// # Panics
    ///
    /// If the address is taken.
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|fault| panic!("the service cannot listen on {address}: {fault}"));
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let router = upstream::router(Arc::clone(&requests));
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("the service goes on");
        });
        Self {
            task,
            requests,
            address,
        }
    }

    /// The number of requests that have reached it.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}
