//! A login, and what is done behind its answer.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

use super::{Begun, Concluded, Errands, MOST_CHANGES, Refused};
use crate::{
    domain::{
        account::Account,
        decision::{Decision, Denial, Issued, Unavailable},
        gate::{Attempt, Grant},
        revocation::Generation,
    },
    spans::{request_id, step},
    users::UsersFault,
};

/// A hash that is to be replaced.
#[derive(Debug)]
pub struct Upgrade {
    attempt: Box<Attempt>,
    account: Account,
    place: OwnedSemaphorePermit,
}

impl Errands {
    pub(super) async fn login(
        self: &Arc<Self>,
        attempt: Box<Attempt>,
        client: Option<IpAddr>,
    ) -> Result<Concluded, Refused> {
        let Begun {
            place,
            admitted,
            account,
            cause,
        } = self.begin(&attempt.login.username, client).await?;
        let settled = self.settle(place, attempt, account).await;
        let (account, issued, attempt, place) = match settled {
            Ok(settled) => settled,
            Err(refused) => return Err(self.refused(&admitted, refused, cause)),
        };
        self.right(&admitted, &account);
        let upgrade = (self.live.now().gate.hasher.is_outdated(&account.hash)
            && self.store.users.takes_hashes())
        .then(|| Upgrade {
            attempt,
            account,
            place,
        });
        Ok(Concluded {
            decision: Decision::Issue(issued),
            cause: None,
            upgrade,
        })
    }

    /// Verifies until the row is as it was: meanwhile another login may have replaced the hash by a better one.
    async fn settle(
        self: &Arc<Self>,
        mut place: OwnedSemaphorePermit,
        mut attempt: Box<Attempt>,
        mut account: Option<Account>,
    ) -> Result<(Account, Issued, Box<Attempt>, OwnedSemaphorePermit), Refused> {
        for _ in 0..MOST_CHANGES {
            let row = account.clone();
            let hashed = self.hash(place, account.as_ref(), move |gate| {
                let verified = gate.settle(&attempt, row);
                (attempt, verified)
            });
            let verified;
            (place, (attempt, verified)) = hashed.await?;
            let seen = verified?;
            let gone_on = self.go_on(&seen, |account, generation| {
                attempt.grant(account, generation)
            });
            match gone_on.await? {
                Ok(issued) => return Ok((seen, issued, attempt, place)),
                Err(changed) => account = changed,
            }
        }
        Err(Denial::Unavailable(Unavailable::Busy).into())
    }

    /// Hands out a token for an account whose password was right a moment ago, or gives its row where that is another one
    /// now. What ends all tokens of a user changes the row with the generation: so the row is read once more behind the
    /// generation, and must be as it was.
    pub(super) async fn go_on(
        &self,
        account: &Account,
        grant: impl FnOnce(Account, Generation) -> Grant,
    ) -> Result<Result<Issued, Option<Account>>, Refused> {
        let generation = self
            .store
            .generation(&account.id, &self.live.now().gate.ended)
            .await;
        let again = step("fetch row", self.store.users.find(&account.username)).await?;
        let again = match again {
            Some(again)
                if again.id == account.id && again.hash.is(&account.hash) && !again.disabled =>
            {
                again
            }
            changed => return Ok(Err(changed)),
        };
        let issued = self.issue(grant(again, generation))?;
        if let Some((refresh, lifetime)) = &issued.refresh {
            let opening =
                (self.store.ledger).opening(refresh, &issued.identity, generation, *lifetime);
            self.store.ledger.connections.write(&[opening]).await?;
        }
        Ok(Ok(issued))
    }

    /// Replaces the hash of a login that succeeded, behind its answer.
    pub async fn upgrade(self: Arc<Self>, upgrade: Upgrade) -> Option<String> {
        let Upgrade {
            attempt,
            account,
            place,
        } = upgrade;
        let hashed = self
            .hash(place, None, move |gate| gate.rehash(&attempt))
            .await;
        let (_place, hash) = hashed.ok()?;
        let hash = hash?;
        match (self.store)
            .upgrade_hash(&account.username, &account.hash, &hash)
            .await
        {
            Ok(()) => Some(account.id),
            // Somebody was faster, or changed the password: theirs stands.
            Err(UsersFault::Unknown) => None,
            Err(fault) => {
                tracing::warn!(cause = %fault, sub = account.id, request_id = request_id(), "the hash could not be replaced by a better one");
                None
            }
        }
    }
}
