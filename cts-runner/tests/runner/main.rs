//! The real program against its own mock of deqp-vk, whose cases say in their names how they behave.

mod bench;
mod errors;
mod outcomes;
mod real;
mod reports;
mod resume;
mod tools;
