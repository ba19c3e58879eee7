//! What people do for themselves: register, and change their password.

use super::{
    Concluded, MOST_CHANGES, Refused, Run,
    login::Continued,
    turn::{Admitted, CountedCaller},
};
use crate::{
    clock::{unix_millis, unix_time},
    domain::{
        decision::{By, Decision, Denial, Done},
        judge::{PasswordChange, Registration},
        token::UnixTime,
    },
    login::{
        account::Account,
        desk::Grant,
        password::{LengthClass, PasswordHash},
    },
    tables::users::UsersFault,
};

impl Run {
    pub(super) async fn register(
        &self,
        registration: Box<Registration>,
        caller: &CountedCaller,
    ) -> Result<Concluded, Refused> {
        self.rules.desk.check_name(&registration.username)?;
        let limited = self
            .actions
            .throttle
            .limited(&registration.username, caller.client);
        let ticket = self.enter(&limited, None)?;
        let shares = self
            .actions
            .throttle
            .admit_from(caller.client, unix_millis());
        let shares = shares.map_err(|wait| self.throttled(&wait))?;
        self.actions.shares.send(shares, None);
        let mut turn = self.turn(ticket, None, caller).await?;
        let hashed = self.hash(&mut turn, None, LengthClass::SHORT, |desk| {
            let hash = desk.enrol(&registration);
            (registration, hash)
        });
        let (registration, hash) = hashed.await?;
        turn.held().await;
        let hash = hash?;
        let added = self
            .actions
            .store
            .add(
                &registration.username,
                &hash,
                &self.actions.register_roles,
                unix_time(),
            )
            .await;
        match added {
            Ok(()) => {
                // For the log alone: the account is usable even if the id cannot be read now.
                let added = self.actions.store.users.find(&registration.username).await;
                let subject = added.ok().flatten().map(|added| added.id);
                Ok(Decision::Done(Done::Registered { subject }).into())
            }
            Err(UsersFault::Exists) => Err(Denial::NameTaken.into()),
            Err(fault) => Err(fault.into()),
        }
    }

    pub(super) async fn password(
        &self,
        mut change: Box<PasswordChange>,
        caller: &CountedCaller,
    ) -> Result<Concluded, Refused> {
        let username = change.identity.username.clone();
        let Admitted {
            mut turn,
            mut account,
            cause,
        } = self.begin(&username, caller).await?;
        let mut was_right = None;
        for _ in 0..=MOST_CHANGES {
            let row = account.clone();
            let hash = account.as_ref().map(|account| &account.hash);
            let class = LengthClass::of(&change.current);
            let hashed = self.hash(&mut turn, hash, class, move |desk| {
                let settled = desk.settle_password(&change, row);
                (change, settled)
            });
            let settled;
            match hashed.await {
                Ok(hashed) => (change, settled) = hashed,
                Err(denial) if was_right.is_some() => return Err(denial.into()),
                Err(denial) => return Err(self.refused(&mut turn, denial.into(), cause)),
            }
            let (seen, new) = match (settled, was_right) {
                (Ok(settled), None) => {
                    self.right(&mut turn, &settled.0);
                    settled
                }
                (Ok(settled), Some(_)) => settled,
                (Err(denial), None) => {
                    let refused = self.refused(&mut turn, denial.into(), cause);
                    turn.held().await;
                    return Err(refused);
                }
                (Err(_), Some(id)) => return Err(Denial::PasswordChanged(id).into()),
            };
            let all_expired = self.rules.judge.verifier.terms().all_expired(unix_time());
            match self
                .actions
                .store
                .change_password(&seen, &new, all_expired)
                .await
            {
                Ok(()) => return self.changed(&change, seen, new, all_expired).await,
                // A login has upgraded the hash, or another request has changed the password.
                Err(UsersFault::Unknown) => {
                    account = self.users_row(&username).await?.0;
                    was_right = Some(seen.id);
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(Denial::PasswordChanged(change.identity.subject).into())
    }

    /// Issues the only token that is valid after the change.
    async fn changed(
        &self,
        change: &PasswordChange,
        account: Account,
        new: PasswordHash,
        all_expired: UnixTime,
    ) -> Result<Concluded, Refused> {
        self.all_ended(&account.id, all_expired).await?;
        let account = Account {
            hash: new,
            ..account
        };
        let gone_on = self.go_on(&account, |account, generation| {
            Grant::start(account, generation, change.form, By::Password)
        });
        match gone_on.await? {
            Continued::Issued(issued) => Ok(Decision::Issue(issued).into()),
            // The password is changed, but the row has changed again since: issue no token.
            Continued::Changed(_) => Err(Denial::PasswordChanged(account.id).into()),
        }
    }
}
