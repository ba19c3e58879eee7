//! Counts frames of an HTTP/2 connection that belong to no call, and closes the connection if there are too many.
//!
//! h2 and hyper answer or ignore any number of WINDOW_UPDATE, PRIORITY, PING, SETTINGS and unknown frames, and of DATA frames
//! of closed streams. Each costs the peer nine bytes and Doorward some work, and neither library limits them. This counts
//! frame headers before they are decoded; each call earns credit for the frames that belong to it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the accept loop can see of a connection.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    has_called: AtomicBool,
    is_flooded: AtomicBool,
}

impl Signs {
    pub(super) fn called(&self) {
        self.has_called.store(true, Ordering::Relaxed);
    }

    /// Whether a call was made.
    #[must_use]
    pub(crate) fn has_called(&self) -> bool {
        self.has_called.load(Ordering::Relaxed)
    }

    /// Whether it was closed because of a flood of frames.
    #[must_use]
    pub(crate) fn is_flooded(&self) -> bool {
        self.is_flooded.load(Ordering::Relaxed)
    }
}

/// The credit of a connection for frames that belong to no call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// At the start.
    pub(crate) burst: u32,
    /// Per call: its DATA, window updates for its answer, its reset. With zero, a call itself counts as one frame.
    pub(crate) per_call: u32,
    /// Per second, with or without calls.
    pub(crate) per_second: u32,
}

/// DATA of at least this length is free: it costs the peer as much as Doorward.
const LONG_DATA: u32 = 1024;

/// The length of the connection preface (RFC 9113, 3.4).
const PREFACE: u32 = 24;

/// The length of a frame header.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// A stream whose frames are counted as they are read.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    frames: Frames,
    signs: Arc<Signs>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, allowance: Allowance, signs: Arc<Signs>) -> Self {
        Self {
            stream,
            frames: Frames::new(allowance, Instant::now()),
            signs,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut me.stream).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        match me.frames.read(new, Instant::now) {
            Ok(()) => read,
            Err(Flood) => {
                me.signs.is_flooded.store(true, Ordering::Relaxed);
                Poll::Ready(Err(io::Error::other("a flood of HTTP/2 frames")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    crate::doors::write_through!();

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The credit is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flood;

/// Steps from frame header to frame header, and skips payloads.
#[derive(Debug)]
struct Frames {
    /// Bytes until the next frame header.
    skip: u32,
    /// A frame header that arrives in pieces, and its bytes so far.
    head: [u8; HEAD],
    have: usize,
    /// The credit left, in frames.
    credit: u32,
    /// When credit for time was last added.
    paid: Instant,
    allowance: Allowance,
}

impl Frames {
    fn new(allowance: Allowance, now: Instant) -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            credit: allowance.burst,
            paid: now,
            allowance,
        }
    }

    /// Takes received bytes; asks for `now` only when the credit is used up.
    fn read(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(self.skip as usize);
                self.skip -= skipped as u32;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let head = match bytes.split_first_chunk::<HEAD>() {
                Some((head, rest)) if self.have == 0 => {
                    bytes = rest;
                    *head
                }
                _ => {
                    let wanted = bytes.len().min(HEAD - self.have);
                    let (piece, rest) = bytes.split_at(wanted);
                    bytes = rest;
                    let place = self.head.get_mut(self.have..self.have + wanted);
                    if let Some(place) = place {
                        place.copy_from_slice(piece);
                    }
                    self.have += wanted;
                    if self.have < HEAD {
                        return Ok(());
                    }
                    self.have = 0;
                    self.head
                }
            };
            let [a, b, c, kind, ..] = head;
            self.skip = u32::from_be_bytes([0, a, b, c]);
            match kind {
                HEADERS if self.allowance.per_call > 0 => {
                    let credit = self.credit.saturating_add(self.allowance.per_call);
                    self.credit = credit.min(self.allowance.burst);
                }
                DATA if self.skip >= LONG_DATA => {}
                _ => self.pay(&now)?,
            }
        }
        Ok(())
    }

    fn pay(&mut self, now: impl Fn() -> Instant) -> Result<(), Flood> {
        if self.credit == 0 {
            let now = now();
            let passed = now.saturating_duration_since(self.paid);
            self.credit = self.allowance.after(passed);
            self.paid = now;
        }
        self.credit = self.credit.checked_sub(1).ok_or(Flood)?;
        Ok(())
    }
}

impl Allowance {
    fn after(self, passed: Duration) -> u32 {
        let earned = passed.as_millis() * u128::from(self.per_second) / 1000;
        u32::try_from(earned).map_or(self.burst, |earned| earned.min(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWANCE: Allowance = Allowance {
        burst: 100,
        per_call: 8,
        per_second: 10,
    };

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = [&length[1..], &[kind, 0, 0, 0, 0, 1]].concat();
        // A payload that looks like frame headers.
        frame.extend(std::iter::repeat_n(6, payload));
        frame
    }

    fn begun() -> Frames {
        let mut frames = Frames::new(ALLOWANCE, Instant::now());
        frames.read(&[b'P'; 24], Instant::now).unwrap();
        frames
    }

    #[test]
    fn frames_without_calls_are_a_flood() {
        // WINDOW_UPDATE, PRIORITY, RST_STREAM, SETTINGS, PING, unknown, and DATA with little in it.
        for (kind, payload) in [
            (8, 4),
            (2, 5),
            (3, 4),
            (4, 0),
            (6, 8),
            (0x2a, 16_000),
            (0, 1),
        ] {
            let mut frames = begun();
            let start = frames.paid;
            let frame = frame(kind, payload);
            for number in 0..100 {
                assert_eq!(frames.read(&frame, || start), Ok(()), "{kind}: {number}");
            }
            assert_eq!(frames.read(&frame, || start), Err(Flood), "{kind}");
            // Ten frames per second are allowed without end.
            let mut frames = begun();
            let start = frames.paid;
            frames.credit = 0;
            let mut later = start;
            for _ in 0..1000 {
                later += Duration::from_millis(100);
                assert_eq!(frames.read(&frame, || later), Ok(()), "{kind}");
            }
            assert_eq!(frames.read(&frame, || later), Err(Flood), "{kind}");
        }
    }

    #[test]
    fn frames_that_accompany_calls_are_no_flood() {
        let call = [
            frame(1, 60),
            frame(0, 900),
            frame(0, 0),
            frame(8, 4),
            frame(8, 4),
            frame(6, 8),
            frame(3, 4),
        ]
        .concat();
        let mut frames = begun();
        let start = frames.paid;
        for _ in 0..10_000 {
            assert_eq!(frames.read(&call, || start), Ok(()));
        }
        let upload = frame(0, 16_384);
        for _ in 0..10_000 {
            assert_eq!(frames.read(&upload, || start), Ok(()));
        }
    }

    #[test]
    fn many_calls_of_an_untrusted_peer_are_a_flood() {
        let mut frames = begun();
        frames.allowance.per_call = 0;
        let start = frames.paid;
        let call = [frame(1, 60), frame(3, 4)].concat();
        for _ in 0..50 {
            assert_eq!(frames.read(&call, || start), Ok(()));
        }
        assert_eq!(frames.read(&call, || start), Err(Flood));
    }

    proptest! {
        /// Splitting the bytes does not change which frames are counted.
        #[test]
        fn splitting_the_bytes_does_not_change_the_count(
            frames in prop::collection::vec((0..12_u8, 0..3000_usize), 0..200),
            cuts in prop::collection::vec(1..4000_usize, 1..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, *payload)).collect();
            let (mut whole, mut cut) = (begun(), begun());
            let start = whole.paid;
            let expected = whole.read(&bytes, || start);
            let mut rest = &bytes[..];
            let mut found = Ok(());
            for size in cuts.iter().cycle() {
                if rest.is_empty() || found.is_err() {
                    break;
                }
                let (piece, others) = rest.split_at(rest.len().min(*size));
                found = cut.read(piece, || start);
                rest = others;
            }
            prop_assert_eq!(found, expected);
            if found.is_ok() {
                prop_assert_eq!((whole.skip, whole.have, whole.credit), (cut.skip, cut.have, cut.credit));
            }
        }
    }
}
