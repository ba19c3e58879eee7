//! What is stored: the users of the team, the state of Doorward itself, both as one, and what replicas tell each other.
//!
//! Must not know: doors, actions, settings.

pub mod database;
pub mod state;
pub(crate) mod store;
pub(crate) mod sync;
pub mod users;
