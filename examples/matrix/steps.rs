//! Steps: what a scenario does that requests cannot express. The scenario names its step.

mod away;
mod grpc_client;
mod keys;
mod replicas;
mod websocket;

use serde::Deserialize;

use super::{columns::Column, findings::Findings, world::World};

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    GrpcClient,
    GrpcDenial,
    Websocket,
    Logout,
    RotatedKey,
    RevokedKey,
    DatabaseDown,
    AuthorizerDown,
    Rollout,
}

impl Step {
    pub async fn run(
        self,
        world: &World,
        column: Column,
        change: Option<&str>,
        found: &mut Findings,
    ) -> anyhow::Result<()> {
        match self {
            Self::GrpcClient => grpc_client::calls(world, column, change, found).await,
            Self::GrpcDenial => grpc_client::denials(world, column, change, found).await,
            Self::Websocket => websocket::run(world, column, change, found).await,
            Self::Logout => replicas::logout(world, column, found).await,
            Self::RotatedKey => keys::rotate(world, column, found).await,
            Self::RevokedKey => replicas::revoked_key(world, column, found).await,
            Self::DatabaseDown => away::database(world, column, found).await,
            Self::AuthorizerDown => away::authorizer(world, column, found).await,
            Self::Rollout => replicas::rollout(world, column, found).await,
        }
    }
}
