//! The test vectors of the series' behaviour, each a test whose name begins with the vector's number.

mod bench;
mod common;
mod end_to_end;
mod faults;
mod helpers;
mod host;
mod host_tracker;
mod resources;
mod rig;
mod surface_sync;
mod surfaces;
mod tracker;
mod transfer;
mod validation;
mod walk;
