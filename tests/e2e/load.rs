//! Load on a gateway while the other parts change.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::JoinHandle;

use crate::harness::send;

/// Clients that ask again and again until they are told to end.
pub struct Load {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u64>>,
}

impl Load {
    /// A client for each token, with the answers that it may get.
    pub fn start(edge: SocketAddr, tokens: &[(&str, &'static [u16])]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let clients = tokens.iter().map(|(bearer, allowed)| {
            let (ends, bearer, allowed) = (Arc::clone(&ends), (*bearer).to_owned(), *allowed);
            tokio::spawn(async move {
                let mut answers = 0;
                while !ends.load(Ordering::Relaxed) {
                    let headers = [("authorization", &*bearer)];
                    let reply = send(edge, "GET", "/profile", &headers, "").await;
                    assert!(allowed.contains(&reply.status), "{allowed:?}: {reply:?}");
                    answers += 1;
                }
                answers
            })
        });
        Self {
            clients: clients.collect(),
            ends,
        }
    }

    /// Ends the clients; each must have got more than `least` answers.
    ///
    /// # Panics
    ///
    /// If a client got fewer answers, or one that it may not get.
    pub async fn end(self, least: u64) {
        self.ends.store(true, Ordering::Relaxed);
        for client in self.clients {
            let answers = client.await.expect("every answer is allowed");
            assert!(answers > least, "{answers}");
        }
    }
}
