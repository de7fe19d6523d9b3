//! Procura: an authorization engine in which acting for another is a first-class thing.
//!
//! The floors, from the ground up; every import points down. ARCHITECTURE.md is the map.

pub mod model;
pub mod schema;
pub mod condition;
pub mod delegation;
pub mod store;
pub mod graph;
pub mod walk;
pub mod engine;
pub mod api;
pub mod cli;
