//! Tokens in the cookies of browsers: only those that were issued for one, and only while its session lasts.

use std::{sync::Arc, time::Duration};

use super::{TokenFault, UnixTime, Verifier};
use crate::{
    browser_session::BrowserSession,
    credential::Compact,
    principal::Principal,
    revocation::{Generation, Revocations},
    token_cache::{Good, Hashed},
};

/// The valid token of a cookie.
#[derive(Clone, Debug)]
pub struct CookieToken {
    /// The user of the token.
    pub principal: Arc<Principal>,
    /// The session to renew it for, if half of its life is over.
    pub renewal: Option<(BrowserSession, Generation)>,
}

impl Verifier {
    /// Verifies the token of a cookie at `now`: one that was issued for a browser, and whose session of at most `lasts`
    /// has not ended.
    ///
    /// # Errors
    ///
    /// As for [`Verifier::verify`].
    pub fn verify_cookie(
        &self,
        compact: Compact<'_>,
        now: UnixTime,
        ended: &Revocations,
        lasts: Duration,
    ) -> Result<CookieToken, TokenFault> {
        let hashed = Hashed::of(compact.expose());
        if let Some(known) = self.recall(hashed, now, ended) {
            return self.cookie_token(&known?.1, now, lasts);
        }
        let claims = self.genuine(compact, now)?;
        let good = self.good(&claims, now, ended)?;
        let token = self.cookie_token(&good, now, lasts)?;
        self.verified.remember(hashed.fingerprint, good, now.0);
        Ok(token)
    }

    fn cookie_token(
        &self,
        good: &Good,
        now: UnixTime,
        lasts: Duration,
    ) -> Result<CookieToken, TokenFault> {
        let (Some(since), Some(session)) = (good.since, &good.session) else {
            return Err(TokenFault::NotForCookie);
        };
        let session = |lasts| BrowserSession {
            id: session.to_string(),
            since: UnixTime(since),
            lasts,
        };
        // The setting may have been shortened since.
        let end = since.saturating_add(lasts.as_secs());
        self.check_expiry(end, now)?;
        let half = good.expires.saturating_sub(good.issued) / 2;
        let renewed = end.min(now.0.saturating_add(self.terms.lifetime.as_secs()));
        let is_due = now.0 >= good.issued.saturating_add(half) && renewed > good.expires;
        Ok(CookieToken {
            principal: Arc::clone(&good.principal),
            renewal: is_due.then(|| (session(lasts), good.generation)),
        })
    }
}
