//! `[[route]]`: the rules, and the endpoints that they may name. `doorward_rules::routes` reads them.

use doorward_rules::routes::{self, RouteOptions};

use super::{RefreshSettings, SelfServiceSettings, reader::Reader};
use crate::domain::{
    path::Tolerance,
    policy::{Endpoint, Policy},
};

/// The endpoints that are switched on: always login and logout.
pub(super) fn endpoints(
    refresh: &RefreshSettings,
    self_service: &SelfServiceSettings,
) -> Vec<Endpoint> {
    Endpoint::ALL
        .into_iter()
        .filter(|endpoint| match endpoint {
            Endpoint::Login | Endpoint::Logout => true,
            Endpoint::Refresh => refresh.lifetime.is_some(),
            Endpoint::Register => self_service.register,
            Endpoint::Password => self_service.password,
        })
        .collect()
}

pub(super) fn policy(reader: &mut Reader, endpoints: &[Endpoint], tolerance: Tolerance) -> Policy {
    let tables = std::mem::take(&mut reader.routes);
    let options = RouteOptions {
        endpoints,
        tolerance,
    };
    routes::policy(&tables, options).unwrap_or_else(|faults| {
        for fault in faults {
            reader.fault(fault.place, fault.what);
        }
        Policy::built_in(endpoints)
    })
}
