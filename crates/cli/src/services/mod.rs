//! `rookeeper register` and `rookeeper discover`: an instance of a service that is registered while a command runs, and the list of those that live.
//!
//! Reading order:
//! - [`register`]: the registration, and the command beside it
//! - [`discover`]: the list, and its changes
//!
//! What always holds: whoever is registered by a command that ends in order is taken away before the command has ended.

pub mod discover;
pub mod register;

/// Where services are if nothing is said.
const BASE: &str = "/services";
