//! Refreshing a session, and logging out.

use std::sync::Arc;

use super::{Concluded, Refused, Run};
use crate::{
    clock::unix_time,
    domain::{
        decision::{By, Decision, Denial, Done},
        judge::Logout,
        request::TokenForm,
        session::{RefreshFault, RefreshToken},
    },
    login::desk::Grant,
    observe::spans::step,
    tables::{state::Rotation, users::UsersFault},
};

impl Run {
    pub(super) async fn logout(&self, logout: &Logout) -> Result<Concluded, Refused> {
        let presented = &logout.presented;
        let subject = &presented.identity.subject;
        let all_expired = self.rules.judge.verifier.terms().all_expired(unix_time());
        if logout.everywhere {
            self.actions.store.end_all(subject, all_expired).await?;
            self.all_ended(subject, all_expired).await?;
        } else {
            let session = presented.session.as_deref();
            self.actions
                .store
                .end(&presented.token, session, presented.expires, all_expired)
                .await?;
            let ended = Arc::clone(&self.rules.judge.revoked);
            ended.end(&presented.token, presented.expires);
            if let Some(session) = session {
                ended.end(session, all_expired);
            }
        }
        Ok(Decision::Done(Done::LoggedOut {
            subject: subject.clone(),
            everywhere: logout.everywhere,
        })
        .into())
    }

    pub(super) async fn refresh(
        &self,
        token: &RefreshToken,
        form: TokenForm,
    ) -> Result<Concluded, Refused> {
        let all_expired = self.rules.judge.verifier.terms().all_expired(unix_time());
        let rotated = (self.actions.store.state)
            .rotate(token, self.actions.grace.as_secs(), all_expired)
            .await?;
        let session = match rotated {
            Rotation::Rotated(session) => session,
            Rotation::Unknown => {
                return Err(Denial::InvalidRefresh(RefreshFault::Unknown, None).into());
            }
            Rotation::Reused { user_id } => {
                (self.rules.judge.revoked).end(&token.session_id(), all_expired);
                return Err(Denial::InvalidRefresh(RefreshFault::Reused, Some(user_id)).into());
            }
            Rotation::Unusable { user_id } => {
                return Err(Denial::InvalidRefresh(RefreshFault::Account, Some(user_id)).into());
            }
        };
        let generation = self
            .actions
            .store
            .generation(&session.user_id, &self.rules.judge.revoked)
            .await;
        let account = match step(
            "fetch row",
            self.actions.store.users.find(&session.username),
        )
        .await
        {
            Err(UsersFault::Row(_)) => None,
            account => account?,
        };
        let account = account.filter(|account| {
            account.id == session.user_id
                && !account.disabled
                && generation <= session.generation
                && self.rules.desk.names.is_foreign(account).is_none()
        });
        let Some(account) = account else {
            let closing = self.actions.store.state.closing(&token.session_id());
            self.actions
                .store
                .state
                .connections
                .write(&[closing])
                .await?;
            return Err(
                Denial::InvalidRefresh(RefreshFault::Account, Some(session.user_id)).into(),
            );
        };
        let issued = self.issue(Grant {
            identity: account.into(),
            generation,
            refresh: Some(session.refresh),
            browser: None,
            form,
            by: By::Refresh,
        })?;
        Ok(Decision::Issue(issued).into())
    }
}
