//! The test vectors of the series' behaviour, each a test whose name begins with the vector's number.

mod bench;
mod end_to_end;
mod faults;
mod rig;
mod surface_sync;
mod surfaces;
mod tracker;
mod transfer;
mod validation;
