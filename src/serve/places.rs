//! Places for connections at a port. Trusted peers have places of their own, which no other peer can take.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{domain::trust::Peer, observe::metrics::Closed};

/// The limits of connections of some peers.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceLimits {
    /// All of them together.
    pub(crate) most: usize,
    /// One address, or one /64 of IPv6.
    pub(crate) per_address: usize,
    /// What happens to one more.
    pub(crate) when_full: WhenFull,
}

/// What happens to a connection beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// It is closed at once, because open ones may have requests.
    CloseNewest,
    /// It replaces the oldest, so that idle connections do not block short ones such as probes.
    CloseOldest,
}

/// The places of some peers at a port.
#[derive(Debug)]
pub(super) struct Places {
    limits: PlaceLimits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// By number, and so by age.
    all: BTreeMap<u64, Holder>,
    by_address: HashMap<IpAddr, usize>,
    next: u64,
}

#[derive(Debug)]
struct Holder {
    address: Option<IpAddr>,
    /// Dropped when another connection takes the place.
    _keep: oneshot::Sender<()>,
}

/// A place; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    lost: oneshot::Receiver<()>,
}

impl Places {
    pub(super) fn new(limits: PlaceLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
        })
    }

    /// Takes a place; returns also why another connection loses its own, if one does.
    ///
    /// # Errors
    ///
    /// Why there is no place.
    pub(super) fn take(self: &Arc<Self>, peer: Peer) -> Result<(Place, Option<Closed>), Closed> {
        let address = peer.address().map(network);
        let mut taken = self.taken();
        let of_address = address.and_then(|address| taken.by_address.get(&address));
        let full = if of_address.is_some_and(|count| *count >= self.limits.per_address) {
            Some(Closed::AddressFull)
        } else if taken.all.len() >= self.limits.most {
            Some(Closed::Full)
        } else {
            None
        };
        if let Some(full) = full {
            match self.limits.when_full {
                WhenFull::CloseNewest => return Err(full),
                WhenFull::CloseOldest => taken.drop_oldest(match full {
                    Closed::AddressFull => address,
                    Closed::Full | Closed::Handshake | Closed::Silent | Closed::Flood => None,
                }),
            }
        }
        let (keep, lost) = oneshot::channel();
        let number = taken.next;
        taken.next += 1;
        let holder = Holder {
            address,
            _keep: keep,
        };
        taken.all.insert(number, holder);
        if let Some(address) = address {
            *taken.by_address.entry(address).or_default() += 1;
        }
        let place = Place {
            places: Arc::clone(self),
            number,
            lost,
        };
        Ok((place, full))
    }

    /// Every change is complete before anything can panic.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The oldest of an address, or of all.
    fn drop_oldest(&mut self, address: Option<IpAddr>) {
        let is_meant = |holder: &Holder| address.is_none() || holder.address == address;
        let oldest = self.all.iter().find(|(_, holder)| is_meant(holder));
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.free(number);
        }
    }

    fn free(&mut self, number: u64) {
        let Some(address) = self.all.remove(&number).and_then(|holder| holder.address) else {
            return;
        };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Place {
    /// Completes when another connection has taken the place.
    pub(super) async fn lost(&mut self) {
        let _ = (&mut self.lost).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().free(self.number);
    }
}

/// A host may use all addresses of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn places(when_full: WhenFull) -> Arc<Places> {
        Places::new(PlaceLimits {
            most: 5,
            per_address: 2,
            when_full,
        })
    }

    fn peer(address: &str) -> Peer {
        Peer::Address(address.parse().unwrap())
    }

    #[test]
    fn an_address_gets_a_limited_share_of_connections() {
        let places = places(WhenFull::CloseNewest);
        for (one, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"),
        ] {
            let first = places.take(peer(one)).unwrap();
            let second = places.take(peer(other)).unwrap();
            let third = places.take(peer(one)).unwrap_err();
            assert_eq!(third, Closed::AddressFull);
            assert!(places.take(peer("2001:db8:0:1::1")).is_ok());
            drop(first);
            assert!(places.take(peer(other)).is_ok());
            drop(second);
        }
        let _all: Vec<_> = (1..=5)
            .map(|last| places.take(peer(&format!("192.0.2.{last}"))).unwrap())
            .collect();
        let sixth = places.take(peer("192.0.2.6")).unwrap_err();
        assert_eq!(sixth, Closed::Full);
        assert_eq!(places.take(Peer::Socket).unwrap_err(), Closed::Full);
    }

    #[test]
    fn a_new_connection_replaces_the_oldest_one() {
        let places = places(WhenFull::CloseOldest);
        let take = |address| places.take(peer(address)).unwrap();
        let is_lost = |place: &mut Place| place.lost().now_or_never().is_some();
        let (mut a, _) = take("192.0.2.1");
        let (mut b, _) = take("192.0.2.2");
        let (mut c, _) = take("192.0.2.2");
        let (_d, why) = take("192.0.2.2");
        assert_eq!(why, Some(Closed::AddressFull));
        assert!(is_lost(&mut b) && !is_lost(&mut a) && !is_lost(&mut c));
        // Closing a connection that was already replaced frees no place.
        drop(b);
        let (_e, _) = take("192.0.2.3");
        let (_f, why) = take("192.0.2.4");
        assert_eq!(why, None);
        let (_g, why) = take("192.0.2.5");
        assert_eq!(why, Some(Closed::Full));
        assert!(is_lost(&mut a) && !is_lost(&mut c));
        drop((a, c));
        let taken = places.taken();
        assert_eq!(taken.all.len(), 4);
        assert_eq!(taken.by_address.values().sum::<usize>(), 4);
    }
}
