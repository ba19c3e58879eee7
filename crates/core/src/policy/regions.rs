//! Divides all requests into regions that two policies do not divide further, each with an example: every request of a
//! region gets the same answer of the rules as its example.

mod hosts;
mod methods;
mod paths;

pub(super) use self::{hosts::host_classes, methods::method_classes, paths::cells};
pub use self::{
    hosts::{HostClass, Hosts},
    methods::{MethodClass, Methods},
    paths::{PathSet, Paths},
};
