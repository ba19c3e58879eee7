//! A TCP relay that connects each new connection to the next of its targets, as a Kubernetes Service does, or to its only
//! one, as a virtual IP address does.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

pub struct Relay {
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
    pub address: SocketAddr,
}

impl Relay {
    /// Listens on a free port.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn start(targets: &[SocketAddr]) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let targets = Arc::new(Mutex::new(targets.to_vec()));
        let task = tokio::spawn(run(listener, Arc::clone(&targets)));
        Ok(Self {
            targets,
            task,
            address,
        })
    }

    /// Replaces the targets of new connections; existing ones stay.
    pub fn lead_to(&self, targets: &[SocketAddr]) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets.to_vec();
    }

    /// Closes all connections, and accepts no more.
    pub fn cut(&self) {
        self.task.abort();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, targets: Arc<Mutex<Vec<SocketAddr>>>) {
    let mut connections = JoinSet::new();
    for turn in 0_usize.. {
        let Ok((mut client, _)) = listener.accept().await else {
            continue;
        };
        let target = {
            let targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
            let index = turn.checked_rem(targets.len()).unwrap_or(0);
            targets.get(index).copied()
        };
        connections.spawn(async move {
            if let Some(target) = target
                && let Ok(mut server) = TcpStream::connect(target).await
            {
                // Without delay, as the kernel of a node forwards packets.
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
