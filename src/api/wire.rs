//! What the build made of proto/: messages, service traits, clients, and the descriptors that reflection serves.
//!
//! INVARIANT: nothing outside `api` sees these types; a field added in proto/ breaks the conversions, which name every
//! field, instead of being ignored.
#![allow(clippy::all, reason = "generated")]

tonic::include_proto!("procura.v1");

/// The compiled descriptors of proto/ with all they import.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/procura_descriptor.bin"));
