//! A login, and the upgrade of its hash after the answer.

use super::{
    Concluded, MOST_CHANGES, Refused, Run,
    turn::{Admitted, CountedCaller},
};
use crate::{
    actions::hashing::Turn,
    domain::{
        decision::{By, Decision, Denial, Issued, Unavailable},
        judge::Attempt,
        request::TokenForm,
        revocation::Generation,
    },
    login::{account::Account, desk::Grant, password::LengthClass},
    observe::{
        causes,
        spans::{request_id, step},
    },
    tables::users::UsersFault,
};

/// A hash to be replaced after the answer.
#[derive(Debug)]
pub(in crate::actions) struct Upgrade {
    attempt: Box<Attempt>,
    account: Account,
    turn: Turn,
}

/// A login with a correct password.
struct Settled {
    attempt: Box<Attempt>,
    account: Account,
    issued: Issued,
}

/// The result for an account whose password was correct.
pub(super) enum Continued {
    Issued(Issued),
    /// The row has changed, or is gone.
    Changed(Option<Account>),
}

impl Run {
    pub(super) async fn login(
        &self,
        attempt: Box<Attempt>,
        caller: &CountedCaller,
    ) -> Result<Concluded, Refused> {
        let begun = self.begin(&attempt.login.username, caller).await?;
        let Admitted {
            mut turn,
            account,
            cause,
        } = begun;
        let settled = self.settle(&mut turn, attempt, account).await;
        let settled = match settled {
            Ok(settled) => {
                self.right(&mut turn, &settled.account);
                Ok(settled)
            }
            Err(refused) => Err(self.refused(&mut turn, refused, cause)),
        };
        turn.held().await;
        let Settled {
            attempt,
            account,
            issued,
        } = settled?;
        let upgrade = (self.rules.desk.hasher.is_outdated(&account.hash)
            && self.actions.store.users.takes_hashes())
        .then(|| Upgrade {
            attempt,
            account,
            turn,
        });
        Ok(Concluded {
            decision: Decision::Issue(issued),
            cause: None,
            upgrade,
        })
    }

    /// Verifies again if the row changed meanwhile: another login may have upgraded the hash.
    async fn settle(
        &self,
        turn: &mut Turn,
        mut attempt: Box<Attempt>,
        mut account: Option<Account>,
    ) -> Result<Settled, Refused> {
        for _ in 0..MOST_CHANGES {
            let row = account.clone();
            let hash = account.as_ref().map(|account| &account.hash);
            let class = LengthClass::of(&attempt.login.password);
            let hashed = self.hash(turn, hash, class, move |desk| {
                let verified = desk.settle(&attempt, row);
                (attempt, verified)
            });
            let verified;
            (attempt, verified) = hashed.await?;
            let seen = verified?;
            let by = match attempt.form {
                TokenForm::Cookie => By::SignIn,
                TokenForm::Plain | TokenForm::Json => By::Login,
            };
            let gone_on = self.go_on(&seen, |account, generation| {
                Grant::start(account, generation, attempt.form, by)
            });
            match gone_on.await? {
                Continued::Issued(issued) => {
                    return Ok(Settled {
                        attempt,
                        account: seen,
                        issued,
                    });
                }
                Continued::Changed(changed) => account = changed,
            }
        }
        Err(Denial::Unavailable(Unavailable::Busy).into())
    }

    /// Issues a token for an account whose password was right, or returns its row if that has changed. Revoking all tokens
    /// of a user changes the generation and the row together: so the row is read once more after the generation, and must
    /// be unchanged.
    pub(super) async fn go_on(
        &self,
        account: &Account,
        grant: impl FnOnce(Account, Generation) -> Grant,
    ) -> Result<Continued, Refused> {
        let generation = self
            .actions
            .store
            .generation(&account.id, &self.rules.judge.revoked)
            .await;
        let again = step(
            "fetch row",
            self.actions.store.users.find(&account.username),
        )
        .await?;
        let again = match again {
            Some(again)
                if again.id == account.id && again.hash.is(&account.hash) && !again.disabled =>
            {
                again
            }
            changed => return Ok(Continued::Changed(changed)),
        };
        let issued = self.issue(grant(again, generation))?;
        if let Some((refresh, lifetime)) = &issued.refresh {
            let opening = (self.actions.store.state).opening(
                refresh,
                &issued.identity,
                generation,
                *lifetime,
            );
            self.actions
                .store
                .state
                .connections
                .write(&[opening])
                .await?;
        }
        Ok(Continued::Issued(issued))
    }

    /// Replaces the hash of a successful login, after its answer and within its turn: so each login replaces at most one
    /// hash, and later logins of the account see the new row.
    pub(in crate::actions) async fn upgrade(self, upgrade: Upgrade) -> Option<String> {
        let Upgrade {
            attempt,
            account,
            mut turn,
        } = upgrade;
        let hashed = self.hash(&mut turn, None, LengthClass::SHORT, move |desk| {
            desk.rehash(&attempt)
        });
        let hash = hashed.await.ok()??;
        match (self.actions.store)
            .upgrade_hash(&account.username, &account.hash, &hash)
            .await
        {
            Ok(()) => Some(account.id),
            // The row changed meanwhile: keep it.
            Err(UsersFault::Unknown) => None,
            Err(fault) => {
                tracing::warn!(cause = %causes(&fault), sub = account.id, request_id = request_id(), "the hash could not be replaced by a better one");
                None
            }
        }
    }
}
